"""Frozen work is done once: the same patches and films as without the cache, found by content."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from r2g import cache, frozen
from r2g.config.schema import CacheSettings, Precision, RunConfig
from r2g.data import Studies
from r2g.model import ReportGenerator, assemble
from r2g.session import tune

ON = CacheSettings(features=True, films=True, max_gb=1.0)


@pytest.fixture
def films(tmp_path: Path) -> tuple[list[list[str]], dict[str, str]]:
    """Four films, of which one is coloured and two are the same by content; three studies of one and two views."""
    random = np.random.default_rng(0)
    names = ["a", "b", "c", "d"]
    grey = [random.integers(0, 256, (40, 40), dtype=np.uint8) for _ in range(2)]
    pixels = [grey[0], grey[1], grey[0], random.integers(0, 256, (40, 40, 3), dtype=np.uint8)]
    paths = [str(tmp_path / f"{name}.png") for name in names]
    for path, values in zip(paths, pixels, strict=True):
        Image.fromarray(values).save(path)
    return [[paths[0], paths[1]], [paths[2]], [paths[3]]], dict(
        zip(paths, ("k0", "k1", "k0", "k3"), strict=True)
    )


def _model(config: RunConfig) -> ReportGenerator:
    model = assemble(config, torch.device("cpu"), torch.float32)
    tune(model, config)
    return model


def _studies(model: ReportGenerator, paths: list[list[str]], views: int = 2) -> Studies:
    count = len(paths)
    rows: dict[str, Any] = {"id": [str(i) for i in range(count)], "report": ["x"] * count}
    rows |= {"image_path": paths, "labels": [None] * count}
    return Studies(rows, model.encoder.preprocess, views, [[1]] * count)  # type: ignore[arg-type]


def _attach(
    model: ReportGenerator, studies: Studies, keys: dict[str, str], folder: Path, **more: Any
) -> frozen.Reuse:
    settings = replace(ON, **more)
    needed = [(studies, range(len(studies)))]
    return frozen.attach(settings, model, needed, keys, folder, Precision.fp32, Accelerator(cpu=True))


def test_kept_patches_are_what_the_encoder_gives(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path
) -> None:
    model, (paths, keys) = _model(small()), films
    plain, kept = _studies(model, paths), _studies(model, paths)
    told = _attach(model, kept, keys, tmp_path / "cache")
    assert (told.what, told.found, told.made) == ("features", 0, 3)  # one film is there twice
    for i in range(3):
        with torch.no_grad():
            wanted = model.patches(torch.stack(plain.films(i)))
        torch.testing.assert_close(torch.stack(kept.films(i)), wanted, atol=1e-5, rtol=1e-5)
    again = _attach(model, _studies(model, paths), keys, tmp_path / "cache")
    assert (again.found, again.made) == (3, 0)


def test_a_later_view_that_nobody_reads_is_not_encoded(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path
) -> None:
    model, (paths, keys) = _model(small()), films
    assert _attach(model, _studies(model, paths, views=1), keys, tmp_path).made == 2


@pytest.mark.parametrize("change", ["encoder.select=pooled", "encoder.size=64", "encoder.mean=[0.4,0.4,0.4]"])
def test_what_an_encoder_does_with_the_same_weights_is_kept_apart(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    change: str,
) -> None:
    """Pooled to one patch, all have rows of one shape: nothing but the key tells them apart."""
    paths, keys = films
    for words in ((), (change,)):
        model = _model(small("projector.pool=1", *words))
        plain, kept = _studies(model, paths), _studies(model, paths)
        told = _attach(model, kept, keys, tmp_path)
        assert (told.found, told.made) == (0, 3)
        with torch.no_grad():
            wanted = model.patches(torch.stack(plain.films(0)))
        torch.testing.assert_close(torch.stack(kept.films(0)), wanted, atol=1e-5, rtol=1e-5)
    assert len([place for place in (tmp_path / "features").iterdir() if place.is_dir()]) == 2


@pytest.mark.parametrize("mode", ["tuning=shallow", "tuning=deep"])
def test_films_that_were_decoded_otherwise_are_made_anew(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, (paths, keys) = _model(small(mode)), films
    for decoding in ("one", "another"):
        monkeypatch.setattr(frozen, "_DECODING", decoding)
        told = _attach(model, _studies(model, paths), keys, tmp_path)
        assert (told.found, told.made) == (0, 3)


@pytest.mark.parametrize("change", ["weights", "precision", "pool"])
def test_another_encoder_has_patches_of_its_own(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    change: str,
) -> None:
    model, (paths, keys) = _model(small()), films
    _attach(model, _studies(model, paths), keys, tmp_path)
    precision = Precision.fp32
    if change == "weights":
        with torch.no_grad():
            next(model.encoder.parameters()).add_(1e-3)
    elif change == "pool":
        model = _model(small("projector.pool=1"))
    else:
        precision = Precision.bf16
    needed = [(_studies(model, paths), range(3))]
    told = frozen.attach(ON, model, needed, keys, tmp_path, precision, Accelerator(cpu=True))
    assert (told.found, told.made) == (0, 3)


@pytest.mark.parametrize("mode", ["tuning=deep", "tuning=delta", "tuning.frozen_mode=train"])
def test_an_encoder_that_learns_or_drops_reads_kept_films(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path, mode: str
) -> None:
    model, (paths, keys) = _model(small(mode)), films
    plain, kept = _studies(model, paths), _studies(model, paths)
    assert _attach(model, kept, keys, tmp_path).what == "films"
    for i in range(3):
        assert torch.equal(torch.stack(kept.films(i)), torch.stack(plain.films(i)))
    grey = frozen._film_stores(model.encoder.preprocess, tmp_path / "films")[0]  # type: ignore[arg-type]
    assert grey.shape[0] == 1
    assert [key in grey for key in ("k0", "k1", "k3")] == [True, True, False]


def test_what_has_no_room_is_read_anew_and_said(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, (paths, keys) = _model(small()), films
    studies = _studies(model, paths)
    with caplog.at_level(logging.WARNING):
        told = _attach(model, studies, keys, tmp_path, max_gb=1e-6)
    assert told.what == "none"
    assert studies.kept is None
    assert "3 films would need" in caplog.text
    assert "cache.max_gb" in caplog.text


def test_the_report_counts_rows_and_a_dropped_store_is_gone(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path
) -> None:
    model, (paths, keys) = _model(small()), films
    _attach(model, _studies(model, paths), keys, tmp_path)
    line = next(text for text in cache.report(tmp_path).splitlines() if text.startswith("features/"))
    assert line.split()[1] == "3"
    cache.drop(tmp_path, line.split()[0])
    assert "features/" not in cache.report(tmp_path)
    with pytest.raises(SystemExit, match="has no"):
        cache.drop(tmp_path, "../elsewhere")
