"""The encoder that ships with the package: convolutions, then attention, trained on phantom findings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from r2g.core.slots import ENCODERS
from r2g.encoders.base import Encoder, Preprocess, VisionModel, Weights

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "tiny_encoder" / "model.safetensors"
_WIDTH, _HEADS, _BLOCKS, _SIDE = 192, 4, 2, 8
_CHANNELS = (32, 64)  # of the maps before attention


@ENCODERS.register("tiny")
@dataclass(frozen=True)
class Tiny(Encoder):
    """0.9 M parameters, 16 patches of 192 from a grey film of 128 px; weights/CARD.md says how it was made."""

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        return {
            "attention_qv": ("blocks.*.q_proj", "blocks.*.v_proj"),
            "attention": ("blocks.*.q_proj", "blocks.*.k_proj", "blocks.*.v_proj", "blocks.*.o_proj"),
            "mlp": ("blocks.*.up", "blocks.*.down"),
            "blocks": ("blocks.*",),
            "norms": ("*norm*",),
        }

    def build(self, device: torch.device) -> VisionModel:
        with torch.device("meta" if device.type == "meta" else "cpu"):
            model = TinyEncoder()
        if device.type == "meta":
            return model
        if self.weights is Weights.pretrained:
            model.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
        return model.to(device)


class Conv(nn.Module):
    """A convolution with ReLU. `norm` is a BatchNorm while the encoder is pretrained, and folded away after that.

    So a film's patches never depend on the films beside it, whatever is tuned later.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, residual: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2)
        self.norm: nn.Module = nn.Identity()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        return x + y if self.residual else y

    def normalize(self) -> None:
        """Put a BatchNorm behind the convolution."""
        self.norm = nn.BatchNorm2d(self.conv.out_channels)

    @torch.no_grad()
    def fold(self) -> None:
        """Make the convolution give what it gave with its BatchNorm in eval mode, and drop that."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = nn.utils.fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            self.norm = nn.Identity()


class _Block(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(_WIDTH, _WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(_WIDTH, 2 * _WIDTH), nn.Linear(2 * _WIDTH, _WIDTH)

    def forward(self, x: Float[Tensor, "batch patch vision"]) -> Float[Tensor, "batch patch vision"]:
        y = self.norm_attention(x)
        q, k, v = (
            m(y).unflatten(-1, (_HEADS, -1)).transpose(1, 2) for m in (self.q_proj, self.k_proj, self.v_proj)
        )
        x = x + self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


class TinyEncoder(VisionModel):
    """128 px -> 8 x 8 places by convolution -> two blocks of attention -> 4 x 4 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.patches = _WIDTH, (_SIDE // 2) ** 2
        self.preprocess = Preprocess(size=128, mean=(0.5,), std=(0.25,))
        narrow, middle = _CHANNELS
        self.map_widths = (middle, _WIDTH)
        self.fine = nn.Sequential(
            Conv(1, narrow, 7, 4),
            Conv(narrow, narrow, 3, 1, residual=True),
            Conv(narrow, middle, 3, 2),
            Conv(middle, middle, 3, 1, residual=True),
        )
        self.coarse = Conv(middle, _WIDTH, 3, 2)
        self.position = nn.Parameter(torch.zeros(_SIDE * _SIDE, _WIDTH))
        self.blocks = nn.ModuleList(_Block() for _ in range(_BLOCKS))
        self.merge = nn.Linear(4 * _WIDTH, _WIDTH)
        self.norm_out = nn.LayerNorm(_WIDTH)

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch vision"]:
        if images.shape[-2:] != (128, 128):
            raise ValueError(f"encoder tiny reads films of 128 x 128 px, got {tuple(images.shape[-2:])}")
        return self.stages(images)[-1]

    def beside_weights(self) -> dict[str, Any]:
        return {"heads": _HEADS}

    def stages(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> tuple[
        Float[Tensor, "batch c16 16 16"], Float[Tensor, "batch c8 8 8"], Float[Tensor, "batch patch vision"]
    ]:
        """The two maps of convolutions and the patches; pretraining reads the findings off all three."""
        fine = self.fine(images.mean(1, keepdim=True).contiguous(memory_format=torch.channels_last))
        coarse = self.coarse(fine)
        x = coarse.flatten(2).mT + self.position
        for block in self.blocks:
            x = block(x)
        x = x.unflatten(1, (_SIDE // 2, 2, _SIDE // 2, 2)).permute(0, 1, 3, 2, 4, 5)
        return fine, coarse, self.norm_out(self.merge(x.flatten(3).flatten(1, 2)))
