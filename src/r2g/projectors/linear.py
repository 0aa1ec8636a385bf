"""One matrix: R2GenGPT's projector when the output LayerNorm is on."""

from dataclasses import dataclass

from torch import nn

from r2g.core.slots import PROJECTORS
from r2g.projectors.base import PerPatch, Projector


@PROJECTORS.register("linear")
@dataclass(frozen=True)
class Linear(Projector):
    """Each patch times one matrix plus a bias."""

    def build(self, vision_width: int, llm_width: int) -> nn.Module:
        return PerPatch(nn.Linear(vision_width, llm_width), self.tail(llm_width))
