"""hydra/launcher=gang where memory is too short for the gang that was estimated to fit."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import DictConfig

from hydra_plugins.r2g_gang_launcher import launcher
from r2g import gang, grouping
from r2g.member import End
from r2g.session import RunFailed


def _too_much() -> RunFailed:
    """What a run becomes whose tensors don't fit: on a real allocator, which gives a real error."""
    try:
        torch.empty(2**60)
    except RuntimeError as error:
        told = RunFailed("no memory")
        told.__cause__ = error
    return told


class _Room:
    """In place of gangs: arms of these sizes; those that take any fail in a gang of more than `most`."""

    def __init__(self, most: int, sizes: Sequence[int]) -> None:
        self.most, self.sizes, self.seen = most, sizes, list[list[int]]()

    def __call__(self, jobs: Sequence[int], halving: object) -> list[End]:
        self.seen.append(list(jobs))
        full = sum(self.sizes[i] for i in jobs) > self.most
        return [
            End("failed", Path(f"{i}.partial"), _too_much())
            if full and self.sizes[i]
            else End("finished", Path(str(i)), best=0.5)
            for i in jobs
        ]


def _gangs(
    monkeypatch: pytest.MonkeyPatch, room: _Room, search: dict[str, object] | None = None
) -> list[str]:
    numbers = range(len(room.sizes))
    jobs = iter([SimpleNamespace(config=None, number=i) for i in numbers])
    monkeypatch.setattr(launcher, "_job_of", lambda tree: next(jobs))
    monkeypatch.setattr(grouping, "groups_of", lambda *_: [list(numbers)])
    monkeypatch.setattr(
        gang, "execute_gang", lambda jobs, halving: room([job.number for job in jobs], halving)
    )
    made = launcher.GangLauncher(16, None, search)
    told = made._run_all([DictConfig({})] * len(numbers), [str(i) for i in numbers], [None] * len(numbers))
    return [end.status for end in told]


def test_a_gang_that_memory_is_too_short_for_goes_on_in_smaller_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = _Room(2, [1] * 5)
    assert _gangs(monkeypatch, room) == ["finished"] * 5
    assert room.seen == [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [2], [3, 4]]
    assert "memory is too short for a gang of 5: on in gangs of 3 and 2" in caplog.text


def test_one_arm_that_is_too_large_beside_others_goes_on_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = _Room(2, [0, 0, 2, 2])
    assert _gangs(monkeypatch, room) == ["finished"] * 4
    assert room.seen == [[0, 1, 2, 3], [2, 3], [2], [3]]


def test_one_arm_that_is_too_large_alone_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    room = _Room(2, [1, 3])
    assert _gangs(monkeypatch, room) == ["finished", "failed"]
    assert room.seen == [[0, 1], [0], [1]]


def test_a_search_is_not_split_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arms compete with those of their gang: another split would be another search."""
    room = _Room(1, [1, 1])
    search = {"eta": 2.0, "metric": "select", "rungs": [1], "keep": 1}
    assert _gangs(monkeypatch, room, search) == ["failed"] * 2
    assert room.seen == [[0, 1]]
