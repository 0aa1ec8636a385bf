"""The llm that ships with the package: a few million parameters, pretrained on phantom report text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from r2g.core.causal import ROLES, empty, load_directory
from r2g.core.slots import LLMS
from r2g.llms.base import LLM, LanguageModel, Load, prompt_ids

_FOLDER = Path(__file__).resolve().parents[1] / "weights" / "tiny_llm"


@LLMS.register("tiny")
@dataclass(frozen=True)
class Tiny(LLM):
    """A Llama of a few million parameters with a tokenizer of its own; weights/CARD.md says how it was made."""

    def __post_init__(self) -> None:
        if self.load is not Load.bits16:
            raise ValueError("load must be 16bit: this llm is too small to quantize")

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        return ROLES["llama"]

    def build(self, device: torch.device, dtype: torch.dtype) -> LanguageModel:
        if device.type == "meta":
            from transformers import AutoConfig

            return LanguageModel(empty(AutoConfig.from_pretrained(_FOLDER)), None, None)
        network, tokenizer = load_directory(_FOLDER, dtype, device)
        return LanguageModel(network, tokenizer, prompt_ids(tokenizer, self.prompt))
