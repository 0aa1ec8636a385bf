"""What every llm is: settings that build a causal language model with a prompt around the image tokens."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_MARK = "<r2g-image>"
_ROWS = 1024  # report positions whose logits exist at the same time


class Style(Enum):
    """The text around the image tokens: as it stands, or inside the tokenizer's own chat template."""

    plain = "plain"
    chat = "chat"


@dataclass(frozen=True)
class Prompt:
    """The text before and after the image tokens."""

    style: Style
    before: str
    after: str


@dataclass(frozen=True)
class PromptIds:
    """The prompt as token ids, with BOS in front where the tokenizer has one."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Load(Enum):
    """Bits of a frozen weight in memory; 16bit means the compute dtype (32 under fp32)."""

    bits16 = "16bit"
    bits8 = "8bit"
    bits4 = "4bit"


def prompt_ids(tokenizer: Any, prompt: Prompt) -> PromptIds:
    """Tokenize both sides of the image apart, without special tokens other than a leading BOS.

    Raises ValueError for style chat when the tokenizer has no chat template.
    """
    bos = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    before, after = prompt.before, prompt.after
    if prompt.style is Style.chat:
        if not tokenizer.chat_template:
            raise ValueError("llm.prompt.style is chat, but this tokenizer has no chat template; use plain")
        turns = [{"role": "user", "content": before + _MARK + after}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        before, after = text.split(_MARK)
        bos = () if tokenizer.bos_token and before.startswith(tokenizer.bos_token) else bos
    pieces = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
    first, last = (tuple(ids) for ids in pieces)
    return PromptIds((*bos, *first), last)


class LanguageModel(nn.Module):
    """A causal language model that reads embeddings: its own for text, a projector's for images.

    `network` is a transformers AutoModelForCausalLM. `tokenizer` and `prompt` are None on the meta device, where
    only shapes are known.
    """

    def __init__(self, network: Any, tokenizer: Any, prompt: PromptIds | None) -> None:
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.soft_prompt: nn.Module | None = None
        self.checkpointing = False

    def use_checkpointing(self, on: bool) -> None:
        """Keep only each block's input for the backward pass, and compute the rest again."""
        self.checkpointing = on
        if on:
            with (
                warnings.catch_warnings()
            ):  # its new name isn't in every transformers that we allow; this one is
                warnings.filterwarnings(
                    "ignore", "`gradient_checkpointing_enable` is deprecated", FutureWarning
                )
                self.network.gradient_checkpointing_enable({"use_reentrant": False})

    @contextmanager
    def _checkpointed(self) -> Iterator[None]:
        """For a pass that has a backward: transformers checkpoints only blocks in train mode, so their flag goes up.

        Nothing inside a block changes, so a frozen llm's dropout stays off. Reports are written with the flag as it
        is, since blocks that checkpoint throw their cache away.
        """
        learning = self.checkpointing and torch.is_grad_enabled()
        blocks = [
            module
            for module in (self.network.modules() if learning else ())
            if getattr(module, "gradient_checkpointing", False) and not module.training
        ]
        for block in blocks:
            block.training = True
        try:
            yield
        finally:
            for block in blocks:
                block.training = False

    @property
    def width(self) -> int:
        """The length of a word embedding."""
        return self.network.get_input_embeddings().embedding_dim

    @property
    def eos(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def pad(self) -> int:
        """The id that fills up rows; it never counts in a loss."""
        ids = (self.tokenizer.pad_token_id, self.tokenizer.unk_token_id, self.eos)
        return next(i for i in ids if i is not None)

    def embed(self, ids: Int[Tensor, "*batch text"]) -> Float[Tensor, "*batch text llm"]:
        return self.network.get_input_embeddings()(ids)

    def hidden(
        self,
        embeddings: Float[Tensor, "batch text llm"],
        mask: Bool[Tensor, "batch text"] | None,
    ) -> Float[Tensor, "batch text llm"]:
        """The last hidden states; without a mask every position counts (padding on the right needs none)."""
        inputs = {} if mask is None else {"attention_mask": mask.long(), "position_ids": positions(mask)}
        with self._checkpointed():
            return self.network.base_model(
                inputs_embeds=embeddings, use_cache=False, **inputs
            ).last_hidden_state

    def logits(self, hidden: Float[Tensor, "*row llm"]) -> Float[Tensor, "*row vocab"]:
        """The head with what some families do after it (scaling, soft capping), in fp32."""
        config = self.network.config.get_text_config()
        out = self.network.get_output_embeddings()(hidden).float()
        # not by 1 where a family has none: each such copy is as large as the logits
        if scale := getattr(config, "logit_scale", None):
            out = out * scale
        if scaling := getattr(config, "logits_scaling", None):
            out = out / scaling
        cap = getattr(config, "final_logit_softcapping", None)
        return out if cap is None else torch.tanh(out / cap) * cap

    def loss(self, hidden: Float[Tensor, "row llm"], targets: Int[Tensor, " row"]) -> Float[Tensor, ""]:
        """Summed cross-entropy; never more than `_ROWS` rows of logits exist at once."""
        if len(targets) <= _ROWS:
            return F.cross_entropy(self.logits(hidden), targets, reduction="sum")
        parts = zip(hidden.split(_ROWS), targets.split(_ROWS), strict=True)
        return torch.stack([checkpoint(self._part, h, t, use_reentrant=False) for h, t in parts]).sum()

    def _part(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(hidden), targets, reduction="sum")


def positions(mask: Bool[Tensor, "batch text"]) -> Int[Tensor, "batch text"]:
    """Position ids that skip masked tokens, so that a study's text doesn't depend on its batch."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


@dataclass(frozen=True)
class LLM(ABC):
    """Settings of one llm."""

    kind: ClassVar[str]
    load: Load
    checkpointing: bool
    prompt: Prompt

    @property
    @abstractmethod
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """Role -> globs over the built module's names. Known without building."""

    @abstractmethod
    def build(self, device: torch.device, dtype: torch.dtype) -> LanguageModel:
        """The model with frozen weights in `dtype`. On the meta device: shapes only, nothing is read."""
