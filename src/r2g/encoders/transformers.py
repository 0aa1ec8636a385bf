"""Any vision backbone that transformers knows, from a hub id or a local directory; the vision tower only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from r2g.core.hub import check_shape, fetching, model_config
from r2g.core.slots import ENCODERS
from r2g.encoders._backbone import Backbone, Select, check_preprocess, square
from r2g.encoders._families import Family, Pooled, family_of, vision_part
from r2g.encoders._preprocessor import FILE, fetched, require, side, stated
from r2g.encoders.base import Encoder, Preprocess, VisionModel, Weights

# Of a config: where the weights came from, and in what they were kept.
_NO_MATTER = ("_name_or_path", "dtype")


@ENCODERS.register("transformers")
@dataclass(frozen=True)
class Transformers(Encoder):
    """A directory (its config.json wins over `shape`, its mean and std over these) or a hub id (must match).

    `size` null takes films of the model's own size; with another, position embeddings are stretched.
    """

    source: str
    shape: dict[str, Any]
    select: Select
    size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        check_preprocess(self.size, self.mean, self.std)
        self._preprocess(self._config(), stated(self.source))

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        return family_of(self._config()).roles

    def build(self, device: torch.device) -> VisionModel:
        config, said = self._config(), stated(self.source)
        if device.type == "meta" or self.weights is Weights.random:
            network = _empty(config, "meta" if device.type == "meta" else "cpu")
        else:
            network, config, said = self._load(config, said)
        preprocess = self._preprocess(config, said)
        stretch = preprocess.size != square(config.image_size)
        return _Tower(network, preprocess, family_of(config), self.select, stretch).measured().to(device)

    def _config(self) -> Any:
        config = vision_part(model_config(self.source, self.shape))
        family_of(config)
        return config

    def _load(self, config: Any, said: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        from transformers import AutoConfig, AutoModel

        with fetching(self.source):
            if not Path(self.source).is_dir():
                config = vision_part(AutoConfig.from_pretrained(self.source, trust_remote_code=False))
                check_shape(config, self.shape, self.source)
                said = fetched(self.source)
                require(said, self.source, self.mean, self.std)
            network, info = AutoModel.from_pretrained(
                self.source,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                **family_of(config).options,
            )
        lost = sorted([*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])])
        if lost:
            raise ValueError(f"{self.source} lacks {len(lost)} of the encoder's weights, first: {lost[0]}")
        return network, config, said

    def _preprocess(self, config: Any, said: dict[str, Any]) -> Preprocess:
        mean, std = (
            tuple(said.get(f"image_{n}") or ours) for n, ours in (("mean", self.mean), ("std", self.std))
        )
        own = square(config.image_size)
        crop = side(said)
        if self.size is None and crop is not None and crop != own:
            raise ValueError(
                f"{self.source} is built for {own} px and its {FILE} says {crop}: set encoder.size"
            )
        if len(mean) != config.num_channels:
            raise ValueError(f"the model takes {config.num_channels} channels, mean and std have {len(mean)}")
        return Preprocess(self.size or own, mean, std)


class _Tower(Backbone):
    def __init__(
        self, network: Any, preprocess: Preprocess, family: Family, select: Select, stretch: bool
    ) -> None:
        super().__init__(network, preprocess)
        self.family = family
        self.select = select
        self.prefix = int(family.class_token) + getattr(network.config, "num_register_tokens", 0)
        self.options = {"interpolate_pos_encoding": True} if stretch and family.asks else {}

    def beside_weights(self) -> dict[str, Any]:
        config = self.network.config.to_dict()
        told = {name: value for name, value in config.items() if name not in _NO_MATTER}
        taken = {"select": self.select.value, "pooled": self.family.pooled.value, "prefix": self.prefix}
        return {"config": told, "options": self.options, **taken}

    def features(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch vision"]:
        out = self.network(pixel_values=images, **self.options)
        if self.select is Select.patches:
            return out.last_hidden_state[:, self.prefix :]
        if self.family.pooled is Pooled.pooler:
            return out.pooler_output[:, None]
        if self.family.pooled is Pooled.first:
            return out.last_hidden_state[:, :1]
        return out.last_hidden_state.mean(1, keepdim=True)


def _empty(config: Any, device: str) -> Any:
    from transformers import AutoModel

    with torch.device(device):
        return AutoModel.from_config(config, dtype=torch.float32, **family_of(config).options)
