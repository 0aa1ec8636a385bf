"""Any AutoModelForCausalLM, from a hub id or a local directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r2g.core.causal import ROLES, empty, load_directory
from r2g.core.hub import check_shape, model_config
from r2g.core.registry import nearest
from r2g.core.slots import LLMS
from r2g.llms.base import LLM, LanguageModel, Load, prompt_ids


@LLMS.register("causal_lm")
@dataclass(frozen=True)
class CausalLM(LLM):
    """A model directory (its config.json wins over `shape`) or a hub id (which must match `shape`).

    `shape` holds the fields of a transformers config with `model_type`; it's enough for a budget.
    """

    source: str
    shape: dict[str, Any]

    def __post_init__(self) -> None:
        kind = model_config(self.source, self.shape).model_type
        if kind not in ROLES:
            hint = nearest(kind, list(ROLES)) or f" (known: {', '.join(ROLES)})"
            raise ValueError(
                f"no table of module roles for the family '{kind}'{hint}; see r2g/core/causal.py"
            )

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        return ROLES[model_config(self.source, self.shape).model_type]

    def build(self, device: torch.device, dtype: torch.dtype) -> LanguageModel:
        if device.type == "meta":
            return LanguageModel(empty(model_config(self.source, self.shape)), None, None)
        quantization = self._quantization(device, dtype)
        network, tokenizer = load_directory(self.source, dtype, device, **quantization)
        if not Path(self.source).is_dir():
            check_shape(network.config, self.shape, self.source)
        return LanguageModel(network, tokenizer, prompt_ids(tokenizer, self.prompt))

    def _quantization(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        if self.load is Load.bits16:
            return {}
        from transformers import BitsAndBytesConfig

        eight = self.load is Load.bits8
        four = {} if eight else {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        settings = BitsAndBytesConfig(load_in_8bit=eight, load_in_4bit=not eight, **four)
        return {"quantization_config": settings, "device_map": {"": device}}
