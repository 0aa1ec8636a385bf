"""What every encoder is: settings that build a vision model which turns films into patches."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Views(Enum):
    """How the views of one study come together: averaged patch by patch (R2GenGPT), or one after the other."""

    mean = "mean"
    concat = "concat"


class Weights(Enum):
    """Pretrained ones, or random ones of the same shape (a control)."""

    pretrained = "pretrained"
    random = "random"


@dataclass(frozen=True)
class Preprocess:
    """What the encoder was trained on: pixels in a side, channels, and their mean and standard deviation (0..1)."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        return len(self.mean)


class VisionModel(nn.Module, ABC):
    """An encoder's network. `width` is the patch's length, `patches` their number for one film.

    The film's tensor is already resized and normalized by `preprocess`.
    """

    width: int
    patches: int
    preprocess: Preprocess

    @abstractmethod
    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch vision"]: ...

    @abstractmethod
    def beside_weights(self) -> dict[str, Any]:
        """All else that decides its patches, as JSON: two encoders that say the same and weigh the same are one.

        What the modules' shapes and printed names show needn't be said, nor `preprocess`. A number of heads shows in
        neither.
        """


@dataclass(frozen=True)
class Encoder(ABC):
    """Settings of one encoder."""

    kind: ClassVar[str]
    weights: Weights
    views: Views

    @property
    @abstractmethod
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """Role -> globs over the built module's names, e.g. attention_qv, blocks. Known without building."""

    @abstractmethod
    def build(self, device: torch.device) -> VisionModel:
        """The network in fp32. On the meta device: shapes only, nothing is read or downloaded.

        Random weights follow torch's global seed.
        """
