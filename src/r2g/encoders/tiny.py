"""The encoder that ships with the package: convolutions, then attention, trained on phantom findings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from r2g.core.slots import ENCODERS
from r2g.encoders.base import Encoder, Preprocess, VisionModel, Weights

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "tiny_encoder" / "model.safetensors"
_WIDTH, _HEADS, _BLOCKS, _SIDE = 192, 4, 2, 8


@ENCODERS.register("tiny")
@dataclass(frozen=True)
class Tiny(Encoder):
    """1.0 M parameters, 16 patches of 192 from a grey film of 128 px; weights/CARD.md says how it was made."""

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


class _Stage(nn.Module):
    """Halve the film, then perhaps look around with a residual 3 x 3 convolution."""

    def __init__(self, inputs: int, outputs: int, look: bool) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.norm_shrink = nn.GroupNorm(8, outputs)
        self.look = nn.Conv2d(outputs, outputs, 3, padding=1) if look else None
        self.norm_look = nn.GroupNorm(8, outputs) if look else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm_shrink(self.shrink(x)))
        return x if self.look is None or self.norm_look is None else x + F.gelu(self.norm_look(self.look(x)))


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
        stages = ((1, 24, False), (24, 48, True), (48, 96, True), (96, _WIDTH, False))
        self.stages = nn.Sequential(*[_Stage(*stage) for stage in stages])
        self.position = nn.Parameter(torch.zeros(_SIDE * _SIDE, _WIDTH))
        self.blocks = nn.ModuleList(_Block() for _ in range(_BLOCKS))
        self.merge = nn.Linear(4 * _WIDTH, _WIDTH)
        self.norm_out = nn.LayerNorm(_WIDTH)

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch vision"]:
        if images.shape[-2:] != (128, 128):
            raise ValueError(f"encoder tiny reads films of 128 x 128 px, got {tuple(images.shape[-2:])}")
        x = self.stages(images.mean(1, keepdim=True).contiguous(memory_format=torch.channels_last))
        x = x.flatten(2).mT + self.position
        for block in self.blocks:
            x = block(x)
        x = x.unflatten(1, (_SIDE // 2, 2, _SIDE // 2, 2)).permute(0, 1, 3, 2, 4, 5)
        return self.norm_out(self.merge(x.flatten(3).flatten(1, 2)))
