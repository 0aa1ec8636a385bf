"""Which runs train side by side."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from r2g import grouping
from r2g.budget import cost
from r2g.config.schema import RunConfig

Configured = Callable[..., RunConfig]


@pytest.fixture
def weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An llm of 10 GB; every run takes 1 GB more, the deep ones 4."""

    def needs(config: RunConfig, known: object) -> tuple[float, float]:
        return 10e9, 4e9 if any(
            rule.match == "encoder.*" and rule.train for rule in config.tuning.rules
        ) else 1e9

    monkeypatch.setattr(grouping, "_needs", needs)


def test_what_can_share_an_llm_goes_together(configured: Configured, weighed: None) -> None:
    words = [
        ("seed=0",),
        ("decode=beam",),
        ("seed=1", "tuning=delta"),
        ("data.max_views=2",),
        ("decode=beam", "seed=1"),
    ]
    groups = grouping.groups_of([configured(*each) for each in words], 16, 100.0)
    assert groups == [[0, 2], [1, 4], [3]]


def test_a_gang_ends_where_its_bounds_are(configured: Configured, weighed: None) -> None:
    configs = [configured(f"seed={i}") for i in range(5)]
    assert grouping.groups_of(configs, 2, 100.0) == [[0, 1], [2, 3], [4]]
    assert grouping.groups_of(configs, 16, 13.5) == [[0, 1, 2], [3, 4]]
    assert grouping.groups_of(configs, 16, 1.0) == [[0], [1], [2], [3], [4]]
    mixed = [configured("seed=0"), configured("tuning=deep"), configured("seed=1")]
    assert grouping.groups_of(mixed, 16, 15.0) == [[0, 1], [2]]


def test_a_run_that_cant_be_estimated_goes_alone(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    broken = configured("tuning.rules=[{match: 'encoder.*', train: false}, {match: 'llm.*', train: false}]")
    configs = [configured("seed=0"), broken, configured("seed=1")]
    assert grouping.groups_of(configs, 16, 100.0) == [[1], [0, 2]]
    assert "no rule covers" in caplog.text


@pytest.mark.parametrize(
    ("line", "place", "names"),
    [
        ("0::/slurm/job7/step0", "slurm/job7", ("memory.max", "memory.current")),
        (
            "7:memory:/slurm/job7/step0",
            "memory/slurm/job7",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ),
    ],
    ids=["second version", "first version"],
)
def test_a_job_s_bound_on_memory_counts(
    tmp_path: Path, line: str, place: str, names: tuple[str, str]
) -> None:
    own, group = tmp_path / "own", tmp_path / place
    own.write_text(f"3:cpu:/elsewhere\n{line}\n")
    (group / "step0").mkdir(parents=True)
    assert grouping.allowed(tmp_path, own) == (math.inf, math.inf)
    for name, value in zip(names, ("8000000000", "3000000000"), strict=True):
        (group / name).write_text(f"{value}\n")
        (group / "step0" / name).write_text("max\n")
    assert grouping.allowed(tmp_path, own) == (8e9, 5e9)


def test_the_llm_counts_once(configured: Configured) -> None:
    found = cost(configured())
    llm, own = grouping.shares(found, 4)
    assert llm == pytest.approx(4 * found.budget["parts"]["llm"]["total"], rel=0.02)
    assert llm + own == found.memory.peak


def test_there_is_room_and_several_processes_agree_on_it(configured: Configured) -> None:
    config = configured("train.device=cpu")
    assert grouping.room(config, 1) > 10**6
    assert grouping.room(config, 4) == grouping.room(config, 2) / 2
