"""What every projector is: settings that build the map from patches to the llm's tokens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from r2g.core.checks import Checks, at_least


class Pooled(nn.Module):
    """Average the patches of one film down to `count` (adaptive windows along their order); null keeps all."""

    def __init__(self, count: int | None) -> None:
        super().__init__()
        self.count = count

    def forward(self, patches: Float[Tensor, "film patch vision"]) -> Float[Tensor, "film pooled vision"]:
        return patches if self.count is None else F.adaptive_avg_pool1d(patches.mT, self.count).mT


@dataclass(frozen=True)
class Projector(ABC):
    """Settings of one projector.

    `pool` averages each film's patches down before the views come together; `norm` puts a LayerNorm on the tokens.
    """

    kind: ClassVar[str]
    pool: int | None
    norm: bool

    def __post_init__(self) -> None:
        self.checks().done()

    def checks(self) -> Checks:
        """What the settings are checked for; a subclass adds its own, so that all mistakes are told together."""
        return Checks(self).each(("pool",), at_least(1), "must be at least 1 or null")

    @abstractmethod
    def build(self, vision_width: int, llm_width: int) -> nn.Module:
        """The network in fp32 on torch's default device, initialized from torch's global seed.

        Its forward takes patches [batch, patch, vision] and mask [batch, patch] (None: every patch counts), and
        gives tokens [batch, token, llm] with their mask [batch, token] (or None).
        """

    def tail(self, llm_width: int) -> nn.Module:
        """The output's LayerNorm, or nothing."""
        return nn.LayerNorm(llm_width) if self.norm else nn.Identity()


class PerPatch(nn.Module):
    """A projector that maps each patch alone: one token a patch, the mask unchanged."""

    def __init__(self, body: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.tail = tail

    def forward(
        self, patches: Float[Tensor, "batch patch vision"], mask: Bool[Tensor, "batch patch"] | None
    ) -> tuple[Float[Tensor, "batch patch llm"], Bool[Tensor, "batch patch"] | None]:
        return self.tail(self.body(patches)), mask
