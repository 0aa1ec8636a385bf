"""Learned token embeddings in the prompt (prompt tuning, arXiv 2104.08691), through peft's module."""

from dataclasses import dataclass

import torch
from peft import PromptTuningConfig
from peft.tuners.prompt_tuning import PromptEmbedding
from torch import nn

from r2g.adapters.base import Adapter, Part
from r2g.core.slots import ADAPTERS


@ADAPTERS.register("soft_prompt")
@dataclass(frozen=True)
class SoftPrompt(Adapter):
    """`length` vectors between the prompt's opening text and the image tokens; they start as words of the llm."""

    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be at least 1, got {self.length}")
        if self.part is not Part.llm:
            raise ValueError("part must be llm: an encoder reads no tokens")

    def attach(self, label: str, module: nn.Module, targets: list[str]) -> None:  # noqa: ARG002 - the base's
        if module.soft_prompt is not None:
            raise ValueError(f"adapter '{label}': this llm has a soft prompt already")
        words = module.network.get_input_embeddings()
        config = PromptTuningConfig(
            num_virtual_tokens=self.length, token_dim=module.width, task_type="CAUSAL_LM"
        )
        config.num_transformer_submodules = 1
        prompt = PromptEmbedding(config, words).to(words.weight.device)
        chosen = torch.randint(words.num_embeddings, (self.length,), device=words.weight.device)
        with torch.no_grad():
            prompt.embedding.weight.copy_(words.weight[chosen])
        module.soft_prompt = prompt
