"""What every projector must do, asked of each YAML at small widths."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from r2g.config.paths import config_dir
from r2g.config.schema import RunConfig
from r2g.core.slots import PROJECTORS

YAMLS = sorted(Path(config_dir(), "projector").glob("*.yaml"))
VISION, LLM, PATCHES = 12, 20, 6


@pytest.fixture(params=YAMLS, ids=lambda path: path.stem)
def settings(request: pytest.FixtureRequest, configured: Callable[..., RunConfig]) -> Any:
    return configured(f"projector={request.param.stem}").projector


def _build(settings: Any, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return settings.build(VISION, LLM)


def _patches(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, PATCHES, VISION, generator=torch.Generator().manual_seed(5))


def test_every_kind_is_tested() -> None:
    assert {yaml.safe_load(path.read_text())["kind"] for path in YAMLS} == set(PROJECTORS.names())


@pytest.mark.parametrize("masked", [False, True])
def test_tokens_are_as_wide_as_the_llm_and_the_mask_fits(settings: Any, masked: bool) -> None:
    mask = torch.ones(3, PATCHES, dtype=torch.bool) if masked else None
    tokens, out = _build(settings)(_patches(), mask)
    assert tokens.shape[0] == 3
    assert tokens.shape[2] == LLM
    assert tokens.isfinite().all()
    assert out is None or (out.shape == tokens.shape[:2] and out.dtype == torch.bool)


def test_masked_patches_are_never_seen_by_a_token_that_counts(settings: Any) -> None:
    model, patches = _build(settings), _patches()
    mask = torch.ones(3, PATCHES, dtype=torch.bool)
    mask[0, 4:] = False
    other = patches.clone()
    other[0, 4:] = 99.0
    (tokens, out), (others, again) = model(patches, mask), model(other, mask)
    counts = torch.ones(tokens.shape[:2], dtype=torch.bool) if out is None else out
    assert torch.equal(tokens[counts], others[counts])
    assert (out is None) == (again is None)
    short, _ = model(patches[:1, :4], None)
    torch.testing.assert_close(tokens[0][counts[0]], short[0], rtol=1e-4, atol=1e-5)


def test_studies_do_not_see_each_other(settings: Any) -> None:
    model, patches = _build(settings), _patches()
    torch.testing.assert_close(model(patches, None)[0][:1], model(patches[:1], None)[0])


def test_gradients_reach_every_parameter(settings: Any) -> None:
    model = _build(settings)
    tokens, _ = model(_patches(), None)
    (tokens * torch.randn(tokens.shape)).sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


def test_saved_and_loaded_it_is_the_same(settings: Any, tmp_path: Path) -> None:
    model, other = _build(settings), _build(settings, seed=1)
    save_file(model.state_dict(), tmp_path / "p.safetensors")
    assert not torch.equal(model(_patches(), None)[0], other(_patches(), None)[0])
    other.load_state_dict(load_file(tmp_path / "p.safetensors"))
    assert torch.equal(model(_patches(), None)[0], other(_patches(), None)[0])


def test_works_in_bf16(settings: Any) -> None:
    model = _build(settings)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(_patches(), None)[0].isfinite().all()
    tokens, _ = model.bfloat16()(_patches().bfloat16(), None)
    assert tokens.dtype == torch.bfloat16
    assert tokens.isfinite().all()


def test_starts_follow_the_seed(settings: Any) -> None:
    first, again, other = (_build(settings, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_pool_bounds_the_patches_and_norm_ends_the_tokens(
    settings: Any, configured: Callable[..., RunConfig], small: Callable[..., RunConfig]
) -> None:
    from r2g.model import assemble

    config = small(f"projector={type(settings).kind}", "projector.pool=2", "projector.norm=true")
    model = assemble(config, torch.device("cpu"), torch.float32)
    assert model.pool(torch.randn(3, 6, 5)).shape == (3, 2, 5)
    tokens, _ = _build(config.projector)(_patches(), None)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(tokens.shape[:2]), rtol=0, atol=1e-5)
