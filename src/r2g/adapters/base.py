"""What every adapter is: settings that add small trainable parameters to a part of the model."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from torch import nn


class Part(Enum):
    """Which slot an adapter is attached to."""

    encoder = "encoder"
    llm = "llm"


@dataclass(frozen=True)
class Adapter(ABC):
    """Settings of one adapter; `part` says where it goes."""

    kind: ClassVar[str]
    part: Part

    @abstractmethod
    def attach(self, label: str, module: nn.Module, targets: list[str]) -> None:
        """Add the parameters to `module` in place; `targets` are the exact names of the modules to adapt."""
