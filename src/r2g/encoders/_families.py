"""How transformers' vision families differ: class tokens, pooling, and what their modules are called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from r2g.core.registry import nearest

Roles = Mapping[str, tuple[str, ...]]


class Pooled(Enum):
    """Where a family's one vector for a film comes from."""

    mean = "mean"  # over the patches
    first = "first"  # the class token
    pooler = "pooler"  # the network's own pooler_output


@dataclass(frozen=True)
class Family:
    """One model_type of transformers.

    A class token is dropped where patches are wanted. `options` go to the constructor. `asks`: forward
    stretches position embeddings only when told so (the others do it by themselves).
    """

    class_token: bool
    pooled: Pooled
    roles: Roles
    options: Mapping[str, Any] = field(default_factory=dict)
    asks: bool = True


def _numbered(*lists: str) -> tuple[str, ...]:
    """Globs for the members of module lists: digits, since a star would take what is inside them, too."""
    return tuple(f"{one}.{digits}" for one in lists for digits in ("[0-9]", "[0-9][0-9]"))


def _projections(attention: str, out: str = "o_proj") -> dict[str, tuple[str, ...]]:
    q, k, v = (f"*.{attention}.{letter}_proj" for letter in "qkv")
    return {"attention_qv": (q, v), "attention": (q, k, v, f"*.{attention}.{out}")}


_SWIN_BLOCKS = _numbered("network.encoder.layers.[0-9].blocks")
_SWIN_NORMS = ("*.norm", "*.layernorm_before", "*.layernorm_after", "network.layernorm")
_SWIN: Roles = {
    **_projections("attention"),
    "mlp": ("*.mlp.fc1", "*.mlp.fc2"),
    "blocks": _SWIN_BLOCKS,
    "norms": _SWIN_NORMS,
}
_SWINV2: Roles = {
    "attention_qv": ("*.attention.self.query", "*.attention.self.value"),
    "attention": tuple(
        f"*.attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense")
    ),
    "mlp": ("*.intermediate.dense", *(f"{block}.output.dense" for block in _SWIN_BLOCKS)),
    "blocks": _SWIN_BLOCKS,
    "norms": _SWIN_NORMS,
}
_VIT: Roles = {
    **_projections("attention"),
    "mlp": ("*.mlp.fc1", "*.mlp.fc2"),
    "blocks": _numbered("network.layers"),
    "norms": ("*.layernorm_before", "*.layernorm_after", "network.layernorm"),
}
_DINOV2: Roles = {
    **_projections("attention"),
    "mlp": ("*.mlp.fc1", "*.mlp.fc2"),
    "blocks": _numbered("network.encoder.layer"),
    "norms": ("*.norm1", "*.norm2", "network.layernorm"),
}
_CLIP: Roles = {
    **_projections("self_attn", "out_proj"),
    "mlp": ("*.mlp.fc1", "*.mlp.fc2"),
    "blocks": _numbered("network.encoder.layers"),
    "norms": ("*.layer_norm1", "*.layer_norm2", "network.pre_layrnorm", "network.post_layernorm"),
}
_SIGLIP: Roles = {
    **_projections("self_attn", "out_proj"),
    "mlp": (
        "network.encoder.*.mlp.fc1",
        "network.encoder.*.mlp.fc2",
    ),  # the pooling head has an mlp of its own
    "blocks": _numbered("network.encoder.layers"),
    "norms": ("*.layer_norm1", "*.layer_norm2", "network.post_layernorm"),
}
_BARE = {"add_pooling_layer": False}  # ViT's pooler is a layer that only its classifier uses

FAMILIES: Mapping[str, Family] = {
    "clip_vision_model": Family(True, Pooled.pooler, _CLIP),
    "dinov2": Family(True, Pooled.first, _DINOV2, asks=False),
    "dinov2_with_registers": Family(True, Pooled.first, _DINOV2, asks=False),
    "siglip_vision_model": Family(False, Pooled.pooler, _SIGLIP),
    "swin": Family(False, Pooled.mean, _SWIN),
    "swinv2": Family(False, Pooled.mean, _SWINV2),
    "vit": Family(True, Pooled.first, _VIT, options=_BARE),
}


def vision_part(config: Any) -> Any:
    """The config of the vision tower: of CLIP and SigLIP a part, of the others all."""
    return getattr(config, "vision_config", config)


def family_of(config: Any) -> Family:
    """The table's entry of a vision config. Raises ValueError for a family that isn't in it."""
    kind = config.model_type
    if kind not in FAMILIES:
        hint = nearest(kind, list(FAMILIES))
        raise ValueError(f"'{kind}' is not a vision family known here{hint} (known: {', '.join(FAMILIES)})")
    return FAMILIES[kind]
