"""Two or more linear layers with GELU between them (LLaVA-1.5, arXiv 2310.03744)."""

from dataclasses import dataclass

from torch import nn

from r2g.core.slots import PROJECTORS
from r2g.projectors.base import PerPatch, Projector


@PROJECTORS.register("mlp")
@dataclass(frozen=True)
class MLP(Projector):
    """`depth` linear layers; all but the last have `hidden` outputs (null: the llm's width)."""

    hidden: int | None
    depth: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 2:
            raise ValueError(f"depth must be at least 2, got {self.depth} (one layer is projector=linear)")
        if self.hidden is not None and self.hidden < 1:
            raise ValueError(f"hidden must be at least 1 or null, got {self.hidden}")

    def build(self, vision_width: int, llm_width: int) -> nn.Module:
        widths = [vision_width, *[self.hidden or llm_width] * (self.depth - 1), llm_width]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        return PerPatch(nn.Sequential(*layers[:-1]), self.tail(llm_width))
