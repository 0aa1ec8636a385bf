"""Low-rank updates (LoRA, arXiv 2106.09685; DoRA, arXiv 2402.09353) through peft."""

from dataclasses import dataclass

from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from r2g.adapters.base import Adapter
from r2g.core.slots import ADAPTERS


@ADAPTERS.register("lora")
@dataclass(frozen=True)
class Lora(Adapter):
    """`targets` is a role of the part; `dora` splits each weight into magnitude and direction.

    Updates are scaled by `alpha` / `rank`; an `alpha` of null is as large as the rank.
    """

    rank: int
    alpha: float | None
    dropout: float
    dora: bool
    targets: str

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"alpha must be above 0 or null, got {self.alpha}")

    def attach(self, label: str, module: nn.Module, targets: list[str]) -> None:
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.rank if self.alpha is None else self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            use_dora=self.dora,
            target_modules=targets,
        )
        inject_adapter_in_model(config, module, adapter_name=label)
