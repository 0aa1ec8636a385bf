"""The vision tower of an open_clip model: built-in by name and tag, a local directory, or a hub id."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from r2g.core.hub import fetching
from r2g.core.slots import ENCODERS
from r2g.encoders._backbone import Backbone, Select, check_preprocess, load_strictly, square
from r2g.encoders._clip_files import built_in, stated, tower_shape, weights_file
from r2g.encoders.base import Encoder, Preprocess, VisionModel, Weights

# The library builds both towers at once, so the one that is thrown away is made as small as it gets.
_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


@ENCODERS.register("open_clip")
@dataclass(frozen=True)
class OpenClip(Encoder):
    """`source` is a built-in name with the `tag` of its weights, a directory, or a hub id with its `shape`.

    `shape` holds embed_dim, quick_gelu and vision_cfg as in open_clip_config.json; a directory's own file
    wins, over mean and std too. `modules` are the roles: role -> globs over the built module's names.
    """

    source: str
    tag: str | None
    shape: dict[str, Any]
    modules: dict[str, tuple[str, ...]]
    select: Select
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        import open_clip

        check_preprocess(None, self.mean, self.std)
        tower_shape(self.source, self.shape)
        tags = open_clip.list_pretrained_tags_by_model(self.source) if built_in(self.source) else [None]
        needed = self.tag is not None or self.weights is Weights.pretrained
        if needed and self.tag not in tags:
            raise ValueError(
                f"'{self.source}' has no tag '{self.tag}' (choices: {', '.join(map(str, tags))})"
            )

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        return self.modules

    def build(self, device: torch.device) -> VisionModel:
        shape = tower_shape(self.source, self.shape)
        network = _visual(shape, "meta" if device.type == "meta" else "cpu")
        if device.type != "meta" and self.weights is Weights.pretrained:
            load_strictly(network, self._weights(), self.source)
        if self.select is Select.patches:  # the projection into the space of texts would never be used
            _behead(network)
        said = stated(self.source).get("preprocess_cfg", {})
        mean, std = (tuple(said.get(name, getattr(self, name))) for name in ("mean", "std"))
        preprocess = Preprocess(square(network.image_size), mean, std)
        return _Tower(network, preprocess, shape, self.select).measured().to(device)

    def _weights(self) -> dict[str, Tensor]:
        from open_clip.factory import load_state_dict

        with fetching(self.source):
            state = load_state_dict(
                str(weights_file(self.source, self.tag, self.shape, (self.mean, self.std)))
            )
        start = "visual."
        return {name.removeprefix(start): t.float() for name, t in state.items() if name.startswith(start)}


class _Tower(Backbone):
    def __init__(self, network: Any, preprocess: Preprocess, shape: dict[str, Any], select: Select) -> None:
        super().__init__(network, preprocess)
        self.shape = shape
        self.select = select

    def beside_weights(self) -> dict[str, Any]:
        return {"shape": self.shape, "select": self.select.value}

    def features(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch vision"]:
        if self.select is Select.pooled:
            return self.network(images)[:, None]
        last = self.network.forward_intermediates(
            images, indices=1, normalize_intermediates=True, intermediates_only=True
        )
        return last["image_intermediates"][-1].flatten(2).mT


def _visual(shape: dict[str, Any], device: str) -> Any:
    from open_clip import CLIP

    vision = {**shape["vision_cfg"], "timm_model_pretrained": False}
    with torch.device(device):
        return CLIP(shape["embed_dim"], vision, _TEXT, quick_gelu=shape.get("quick_gelu", False)).visual


def _behead(network: Any) -> None:
    if hasattr(network, "trunk"):
        network.head = nn.Sequential()
    else:
        network.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
