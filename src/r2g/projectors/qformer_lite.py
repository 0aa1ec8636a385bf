"""Learned queries that read the patches: BLIP-2's Q-Former (arXiv 2301.12597) without its text side."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from r2g.core.checks import Checks, at_least
from r2g.core.slots import PROJECTORS
from r2g.projectors.base import Projector


@PROJECTORS.register("qformer_lite")
@dataclass(frozen=True)
class QFormerLite(Projector):
    """`queries` tokens come out, whatever goes in; `depth` blocks of cross-attention and MLP at `width`."""

    queries: int
    depth: int
    heads: int
    width: int

    def checks(self) -> Checks:
        check = (
            super().checks().each(("queries", "depth", "heads", "width"), at_least(1), "must be at least 1")
        )
        words = "width {0} must be a multiple of heads {1}"
        return check.joint(("width", "heads"), lambda width, heads: heads < 1 or width % heads == 0, words)

    def build(self, vision_width: int, llm_width: int) -> nn.Module:
        return _QFormer(self, vision_width, llm_width, self.tail(llm_width))


class _Block(nn.Module):
    """Pre-norm: the queries look at each other, then at the patches, then think."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_self, self.norm_cross, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.self_qkv = nn.Linear(width, 3 * width)
        self.self_out = nn.Linear(width, width)
        self.cross_q = nn.Linear(width, width)
        self.cross_kv = nn.Linear(width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, queries: Tensor, patches: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.self_qkv(self.norm_self(queries)).chunk(3, dim=-1)
        queries = queries + self.self_out(self._attend(q, k, v, None))
        k, v = self.cross_kv(patches).chunk(2, dim=-1)
        q = self.cross_q(self.norm_cross(queries))
        queries = queries + self.cross_out(self._attend(q, k, v, mask))
        return queries + self.mlp(self.norm_mlp(queries))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        mask = None if mask is None else mask[:, None, None, :]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class _QFormer(nn.Module):
    def __init__(self, settings: QFormerLite, vision_width: int, llm_width: int, tail: nn.Module) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(settings.queries, settings.width))
        nn.init.trunc_normal_(self.queries, std=0.02)
        self.enter = nn.Sequential(nn.Linear(vision_width, settings.width), nn.LayerNorm(settings.width))
        self.blocks = nn.ModuleList(_Block(settings.width, settings.heads) for _ in range(settings.depth))
        self.leave = nn.Linear(settings.width, llm_width)
        self.tail = tail

    def forward(
        self, patches: Float[Tensor, "batch patch vision"], mask: Bool[Tensor, "batch patch"] | None
    ) -> tuple[Float[Tensor, "batch token llm"], None]:
        patches = self.enter(patches)
        queries = self.queries.expand(len(patches), -1, -1)
        for block in self.blocks:
            queries = block(queries, patches, mask)
        return self.tail(self.leave(queries)), None
