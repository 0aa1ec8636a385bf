"""What every projector is: settings that build the map from patches to the llm's tokens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn


@dataclass(frozen=True)
class Projector(ABC):
    """Settings of one projector.

    The built module's forward takes patches [batch, patch, vision] and `mask` [batch, patch] (bool, or None when
    every patch counts) and gives tokens [batch, token, llm] with their mask [batch, token] (or None).
    """

    kind: ClassVar[str]

    @abstractmethod
    def build(self, vision_width: int, llm_width: int) -> nn.Module:
        """The network in fp32 on torch's default device, initialized from torch's global seed."""

    @abstractmethod
    def tokens(self, patches: int) -> int:
        """How many tokens come out for so many patches."""
