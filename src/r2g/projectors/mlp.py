"""Two or more linear layers with GELU between them (LLaVA-1.5, arXiv 2310.03744)."""

from dataclasses import dataclass

from torch import nn

from r2g.core.checks import Checks, at_least
from r2g.core.slots import PROJECTORS
from r2g.projectors.base import PerPatch, Projector


@PROJECTORS.register("mlp")
@dataclass(frozen=True)
class MLP(Projector):
    """`depth` linear layers; all but the last have `hidden` outputs (null: the llm's width)."""

    hidden: int | None
    depth: int

    def checks(self) -> Checks:
        few = "depth must be at least 2, got {0} (one layer is projector=linear)"
        check = super().checks().joint(("depth",), at_least(2), few)
        return check.each(("hidden",), at_least(1), "must be at least 1 or null")

    def build(self, vision_width: int, llm_width: int) -> nn.Module:
        widths = [vision_width, *[self.hidden or llm_width] * (self.depth - 1), llm_width]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        return PerPatch(nn.Sequential(*layers[:-1]), self.tail(llm_width))
