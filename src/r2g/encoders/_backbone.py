"""A library's vision network behind our interface, shared by the kinds that wrap one."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from enum import Enum
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from r2g.encoders.base import Preprocess, VisionModel


class Select(Enum):
    """What the projector sees: every patch, or one vector for the film."""

    patches = "patches"
    pooled = "pooled"


class Backbone(VisionModel):
    """A network and how patches come out of it; a pass on the meta device finds `patches` and `width`."""

    def __init__(self, network: Any, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        self.preprocess = preprocess

    @abstractmethod
    def features(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch vision"]:
        """What the network gives for films of the right size."""

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch vision"]:
        expected = (self.preprocess.channels, self.preprocess.size, self.preprocess.size)
        if images.shape[1:] != expected:
            raise ValueError(f"the encoder takes films of {expected}, got {tuple(images.shape[1:])}")
        return self.features(images)

    def measured(self) -> "Backbone":
        """Self, with `patches` and `width` filled in; nothing is computed."""
        side, training = self.preprocess.size, self.training
        state = {n: t.to("meta") for n, t in chain(self.named_parameters(), self.named_buffers())}
        film = torch.empty(1, self.preprocess.channels, side, side, device="meta")
        with torch.no_grad():
            out = torch.func.functional_call(self.eval(), state, (film,))
        self.train(training)
        self.patches, self.width = out.shape[1:]
        return self


def square(size: Any) -> int:
    """The side of a square given as a number or a pair. Raises ValueError for another shape."""
    sides = set(size) if isinstance(size, Iterable) else {size}
    if len(sides) != 1:
        raise ValueError(f"only square films are known here, the model takes {tuple(size)}")
    return int(sides.pop())


def check_preprocess(size: int | None, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise ValueError unless the three can describe films."""
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    if len(mean) == 0 or len(mean) != len(std):
        raise ValueError(f"mean and std need one value a channel, got {len(mean)} and {len(std)}")
    if min(std) <= 0 or not all(map(math.isfinite, (*mean, *std))):
        raise ValueError(f"mean and std must be finite and std above 0, got {mean} and {std}")


def load_strictly(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load weights whose names and shapes must be exactly the module's; ValueError lists what differs."""
    own = module.state_dict()
    problems = [f"lacks {name}" for name in own if name not in state]
    problems += [f"has {name}, which the model hasn't" for name in state if name not in own]
    for name in set(own) & set(state):
        if own[name].shape != state[name].shape:
            problems.append(
                f"has {name} as {tuple(state[name].shape)}, the model as {tuple(own[name].shape)}"
            )
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{where} doesn't fit the model: it {'; it '.join(sorted(problems)[:5])}{more}")
    module.load_state_dict(state)
