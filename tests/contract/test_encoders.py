"""What every encoder must do, asked of each kind through its YAMLs at small sizes."""

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from r2g.config.paths import config_dir
from r2g.config.resolve import _slot
from r2g.core.images import normalize
from r2g.core.slots import ENCODERS
from r2g.encoders.base import Encoder, VisionModel, Weights
from r2g.frozen import identity
from r2g.tuning import names_of_role

# Wherever a YAML names one of these sizes, it is made small: a new encoder needs no line here.
SMALL = {
    "depths": [1, 2],
    "embed_dim": 16,
    "head_width": 16,
    "hidden_size": 32,
    "image_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "num_attention_heads": 2,
    "num_heads": [2, 2],
    "num_hidden_layers": 2,
    "patch_size": 8,
    "width": 64,
    "window_size": 2,
}
# A network known by its name has the sizes of its name.
SMALL_NAMES = {"vit_base_patch16_224": "test_vit"}
SMALL_SIDE = {"size": 160, "image_size": 160}


def _small(tree: dict[str, Any]) -> dict[str, Any]:
    """The YAML with small sizes, random weights, and no name that a library or the hub would insist on."""
    tree = {**tree, "weights": "random"}
    if "shape" in tree:
        tree |= {"source": "tests/small", "shape": _shrink(tree["shape"])}
        tree |= {key: None for key in ("tag", "size") if key in tree}
    return _shrink(tree) if tree.get("model") in SMALL_NAMES else tree


def _shrink(tree: dict[str, Any]) -> dict[str, Any]:
    named = any(value in SMALL_NAMES for value in tree.values() if isinstance(value, str))
    small = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            small[key] = _shrink(value)
        elif named:
            small[key] = (
                SMALL_NAMES.get(value, value) if isinstance(value, str) else SMALL_SIDE.get(key, value)
            )
        else:
            small[key] = SMALL.get(key, value)
    return small


def _settings(path: Path, small: bool = True) -> Encoder:
    tree = yaml.safe_load(path.read_text())
    problems: list[str] = []
    settings = _slot(ENCODERS, _small(tree) if small else tree, "encoder", problems)
    assert not problems
    return settings


YAMLS = [
    path
    for path in sorted(Path(config_dir(), "encoder").glob("*.yaml"))
    if "???" not in yaml.safe_load(path.read_text()).values()
]


@pytest.fixture(params=YAMLS, ids=lambda path: path.stem)
def yaml_file(request: pytest.FixtureRequest) -> Path:
    return request.param


def _build(settings: Encoder, seed: int = 0) -> VisionModel:
    torch.manual_seed(seed)
    return settings.build(torch.device("cpu")).eval()


def _film(model: VisionModel, batch: int = 2) -> torch.Tensor:
    side = model.preprocess.size
    numbers = torch.Generator().manual_seed(1)
    return torch.rand(batch, model.preprocess.channels, side, side, generator=numbers)


def test_every_kind_is_tested() -> None:
    kinds = {yaml.safe_load(path.read_text())["kind"] for path in YAMLS}
    assert kinds == set(ENCODERS.names())


def test_patches_are_as_declared_also_in_bf16(yaml_file: Path) -> None:
    model = _build(_settings(yaml_file))
    with torch.no_grad():
        patches = model(_film(model))
        assert patches.shape == (2, model.patches, model.width)
        assert patches.dtype == torch.float32
        assert patches.isfinite().all()
        with torch.autocast("cpu", torch.bfloat16):
            assert model(_film(model)).isfinite().all()
        half = model.to(torch.bfloat16)(_film(model).bfloat16())
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()


def test_films_differ_in_their_patches_and_not_by_their_neighbours(yaml_file: Path) -> None:
    model = _build(_settings(yaml_file))
    films = _film(model)
    with torch.no_grad():
        both, first = model(films), model(films[:1])
    assert not torch.allclose(both[0], both[1])
    torch.testing.assert_close(both[:1], first, rtol=1e-4, atol=1e-4)


def test_a_film_of_another_size_is_refused(yaml_file: Path) -> None:
    model = _build(_settings(yaml_file))
    side = model.preprocess.size + 16
    with pytest.raises(ValueError, match=str(side)):
        model(torch.rand(1, model.preprocess.channels, side, side))


@pytest.mark.usefixtures("untraced")
def test_random_weights_follow_the_seed(yaml_file: Path) -> None:
    settings = _settings(yaml_file)
    first, again, other = (list(_build(settings, seed).parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_meta_has_the_same_parameters_and_no_storage(yaml_file: Path) -> None:
    settings = _settings(yaml_file)
    real, meta = _build(settings), settings.build(torch.device("meta"))
    shapes = [{n: p.shape for n, p in model.named_parameters()} for model in (real, meta)]
    assert shapes[0] == shapes[1]
    assert all(t.is_meta for t in [*meta.parameters(), *meta.buffers()])
    assert (real.patches, real.width, real.preprocess) == (meta.patches, meta.width, meta.preprocess)
    assert all(p.dtype == torch.float32 for p in real.parameters())


@pytest.mark.usefixtures("untraced")
def test_every_role_is_played_at_full_size(yaml_file: Path) -> None:
    """From the YAML as it stands, pretrained: on the meta device that downloads nothing."""
    settings = _settings(yaml_file, small=False)
    assert settings.weights is Weights.pretrained
    assert {"blocks", "norms"} <= set(settings.roles)
    model = settings.build(torch.device("meta"))
    for globs in settings.roles.values():
        assert names_of_role(model, globs)
    blocks = names_of_role(model, settings.roles["blocks"])
    assert not [inner for inner in blocks for outer in blocks if inner.startswith(outer + ".")]


def test_gradients_reach_the_encoder(yaml_file: Path) -> None:
    model = _build(_settings(yaml_file)).train()
    model(_film(model)).square().mean().backward()
    with_gradient = sum(p.numel() for p in model.parameters() if p.grad is not None)
    assert with_gradient > 0.5 * sum(p.numel() for p in model.parameters())


def _changed(tree: dict[str, Any], where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The tree with one value changed, for every value that can be: numbers, switches, and what is selected."""
    for key, value in tree.items():
        if isinstance(value, dict):
            parts = _changed(value, f"{where}{key}.")
            yield from ((name, {**tree, key: part}) for name, part in parts)
            continue
        others = {"patches": ["pooled"], "pooled": ["patches"]}.get(value, []) if key == "select" else []
        if isinstance(value, bool):
            others = [not value]
        elif isinstance(value, int | float):
            others = [2 * value]
        elif key in ("mean", "std"):
            others = [[number / 2 for number in value]]
        yield from ((where + key, {**tree, key: other}) for other in others)


def _built(tree: dict[str, Any], device: str) -> VisionModel | None:
    """None for values that can't be together."""
    problems: list[str] = []
    settings = _slot(ENCODERS, tree, "encoder", problems)
    if problems:
        return None
    torch.manual_seed(0)
    try:
        return settings.build(torch.device(device)).eval()
    except Exception:
        return None


def _shapes(model: VisionModel) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


@torch.no_grad()
def _seen(model: VisionModel) -> torch.Tensor:
    preprocess = model.preprocess
    return model(normalize((255 * _film(model)).to(torch.uint8), preprocess.mean, preprocess.std))


@pytest.mark.usefixtures("untraced")
def test_a_setting_that_changes_patches_changes_the_identity(yaml_file: Path) -> None:
    """Also where the weights stay the same. The cache and gangs know an encoder by nothing else."""
    tree = _small(yaml.safe_load(yaml_file.read_text()))
    plain = _built(tree, "cpu")
    assert plain is not None
    print_, seen = identity(plain), _seen(plain)
    assert identity(copy.deepcopy(plain)) == print_
    tried = set()
    for name, other in _changed(tree):
        shapes = _built(other, "meta")
        if shapes is None:
            continue
        tried.add(name)
        if _shapes(shapes) != _shapes(plain):
            continue  # they are in the identity with the weights
        model = _built(other, "cpu")
        assert model is not None
        found = _seen(model)
        if found.shape != seen.shape or not torch.equal(found, seen):
            assert identity(model) != print_, name
    assert {key for key in ("select", "mean") if key in tree} <= tried


def test_settings_are_frozen_and_have_no_defaults(yaml_file: Path) -> None:
    settings = _settings(yaml_file)
    for field in dataclasses.fields(settings):
        assert field.default is dataclasses.MISSING
        assert field.default_factory is dataclasses.MISSING
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.weights = Weights.pretrained  # type: ignore[misc]
