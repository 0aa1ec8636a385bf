"""The whole model on a pretended GPU: a tensor that is left on the CPU fails, without a GPU at hand.

Real modules are built outside, their tensors are faked one by one and moved; what a device would refuse, fakes
refuse. `generate` and backward need a real device and are left out.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from r2g.config.paths import config_dir
from r2g.config.schema import RunConfig
from r2g.core.slots import ENCODERS, LLMS, PROJECTORS
from r2g.model import Batch, assemble
from r2g.session import tune

pytestmark = pytest.mark.usefixtures("untraced")  # the other contracts reach what is called here

CUDA = torch.device("cuda")
MODES = sorted(path.stem for path in Path(config_dir(), "tuning").glob("*.yaml"))
SHAPE = {"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}}
# How each kind is made small; all others come from the small Swin's config.
ENCODER = {
    "transformers": [],
    "tiny": ["encoder=tiny"],
    "timm": ["encoder=timm", "encoder.model=test_vit", "encoder.size=160"],
    "open_clip": [
        "encoder=open_clip",
        "encoder.source=tests/small",
        f"encoder.shape={SHAPE}".replace("'", ""),
    ],
}
LLM = {
    "causal_lm": [],
    "tiny": ["llm=tiny"],
    "smollm2": None,
}  # smollm2 is causal_lm's network after its load


def _loss(
    config: RunConfig, studies: Callable[..., Any], spoil: Callable[[nn.Module], Any] | None = None
) -> Tensor:
    """Loss of three studies with one and two views, everything on a GPU that isn't there."""
    model = assemble(config, torch.device("cpu"), torch.float32)
    tune(model, config)
    batch = studies(model, (1, 2, 1), (5, 3, 7))
    if spoil is not None:
        spoil(model)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        state = {
            name: mode.from_tensor(tensor).to(CUDA)
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        }
        fake = _faked(batch, mode).to(CUDA)
        return torch.func.functional_call(model, state, (fake,))  # fp32: autocast wants a real device


def _faked(batch: Batch, mode: FakeTensorMode) -> Batch:
    names = ("images", "view_mask", "films", "tokens", "targets")
    return Batch(ids=batch.ids, **{name: mode.from_tensor(getattr(batch, name)) for name in names})


def test_every_kind_is_tested() -> None:
    assert set(ENCODER) == set(ENCODERS.names())
    assert set(LLM) == set(LLMS.names())


@pytest.mark.parametrize("views", ["mean", "concat"])
@pytest.mark.parametrize("kind", sorted(ENCODER))
def test_encoders(
    kind: str, views: str, small: Callable[..., RunConfig], studies: Callable[..., Any]
) -> None:
    more = [] if kind == "transformers" else ["encoder.weights=random"]
    source = [] if kind in ("transformers", "open_clip") else ["~encoder.source"]
    config = small(*ENCODER[kind], *more, *source, f"encoder.views={views}")
    assert _loss(config, studies).device.type == "cuda"


@pytest.mark.parametrize("name", PROJECTORS.names())
def test_projectors(name: str, small: Callable[..., RunConfig], studies: Callable[..., Any]) -> None:
    config = small(f"projector={name}", "encoder.views=concat", "projector.pool=2")
    assert _loss(config, studies).device.type == "cuda"


@pytest.mark.parametrize("name", [name for name, values in LLM.items() if values is not None])
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_llms(
    name: str, checkpointing: str, small: Callable[..., RunConfig], studies: Callable[..., Any]
) -> None:
    source = [] if name == "causal_lm" else ["~llm.source"]
    config = small(*(LLM[name] or []), *source, f"llm.checkpointing={checkpointing}")
    assert _loss(config, studies).device.type == "cuda"


@pytest.mark.parametrize("mode", MODES)
def test_tuning_modes(mode: str, small: Callable[..., RunConfig], studies: Callable[..., Any]) -> None:
    assert _loss(small(f"tuning={mode}"), studies).device.type == "cuda"


def test_a_tensor_left_on_the_cpu_fails(small: Callable[..., RunConfig], studies: Callable[..., Any]) -> None:
    """The proof that the tests above can fail."""

    def spoil(model: Any) -> None:
        inner = model.projector.forward
        model.projector.forward = lambda patches, mask: (inner(patches, mask)[0] + torch.ones(1, 32), mask)

    with pytest.raises(Exception, match="(?i)device"):
        _loss(small(), studies, spoil)


def test_every_mode_is_a_file() -> None:
    assert all(
        yaml.safe_load(Path(config_dir(), "tuning", f"{mode}.yaml").read_text())["rules"] for mode in MODES
    )
