"""A peak of memory is of what was watched: not of what the process did before, nor of who started it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from r2g.core import memory
from r2g.core.memory import Peak

_MB = 2**20
_CPU = torch.device("cpu")
_on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the mark can be set down on Linux alone")


def _take(megabytes: int) -> None:
    """Hold so much for a moment."""
    torch.ones(megabytes * _MB, dtype=torch.uint8)


@_on_linux
def test_what_was_held_before_does_not_count() -> None:
    first = Peak(_CPU)
    _take(300)
    high = first.told()
    second = Peak(_CPU)
    low = second.told()
    assert high["what"] == low["what"] == "resident"
    assert high["bytes"] - low["bytes"] > 290 * _MB
    _take(200)
    assert 190 * _MB < second.told()["bytes"] - low["bytes"] < 230 * _MB


@_on_linux
def test_what_the_allocator_keeps_does_not_count() -> None:
    """Small pieces lie below the last one, so that freeing them gives nothing back by itself."""
    first = Peak(_CPU)
    pieces = [torch.ones(100_000, dtype=torch.uint8) for _ in range(3000)]
    high, last = first.told()["bytes"], pieces.pop()
    del pieces
    assert high - Peak(_CPU).told()["bytes"] > 250 * _MB
    assert last.all()


def test_one_that_another_replaced_says_nothing() -> None:
    first = Peak(_CPU)
    Peak(_CPU)
    assert first.told() == {}


def test_where_the_mark_stays_up_only_the_first_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(Peak, "_latest", None)
    first = Peak(_CPU)
    assert first.told()["bytes"] > 0
    assert Peak(_CPU).told() == {}


_CHILD = "import torch; from r2g.core.memory import Peak; print(Peak(torch.device('cpu')).told()['bytes'])"


@_on_linux
def test_a_process_is_not_charged_with_the_one_that_started_it() -> None:
    """The kernel hands a high-water mark on to what a process starts, in getrusage."""
    held = torch.ones(600 * _MB, dtype=torch.uint8)
    here = Peak(_CPU).told()["bytes"]
    told = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True)
    assert int(told.stdout) < here - held.nbytes // 2


def test_on_a_gpu_the_allocator_s_own_mark_is_set_down(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noted(name: str, gives: int | None = None) -> Callable[..., int | None]:
        return lambda *device: asked.append(f"{name}{device}") or gives  # type: ignore[func-returns-value]

    gpu = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "init", noted("init"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", noted("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", noted("read", 5))
    assert Peak(gpu).told() == {"what": "cuda", "bytes": 5}
    assert asked == ["init()", f"reset({gpu!r},)", f"read({gpu!r},)"]
