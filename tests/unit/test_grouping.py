"""Which runs train side by side."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from r2g import grouping
from r2g.budget import cost
from r2g.config.schema import RunConfig
from r2g.grouping import Need

Configured = Callable[..., RunConfig]


@pytest.fixture
def weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An llm of 10 GB; every run takes 1 GB more, the deep ones 4."""

    def need(config: RunConfig, known: object) -> Need:
        deep = any(rule.match == "encoder.*" and rule.train for rule in config.tuning.rules)
        return Need(llm=10 * 10**9, own=(4 if deep else 1) * 10**9, passing=0, writing=0, positions=1)

    monkeypatch.setattr(grouping, "_need", need)


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
    need = grouping.need(found, 4)
    assert need.llm == pytest.approx(4 * found.budget["parts"]["llm"]["total"], rel=0.02)
    assert grouping.taken([replace(need, writing=0)], 512) == found.memory.peak


def test_of_what_goes_through_the_llm_only_one_batch_is_there_at_a_time() -> None:
    need = Need(llm=100, own=1, passing=30, writing=0, positions=200)
    assert grouping.taken([need], 512) == 100 + 1 + 30
    assert grouping.taken([need] * 5, 512) == 100 + 5 + 2 * 30  # two arms' batches make one of 400 positions
    assert (
        grouping.taken([need] * 5, 100) == 100 + 5 + 30
    )  # one is wider than that, and goes through all the same
    assert grouping.taken([need] * 2, 4096) == 100 + 2 + 2 * 30


def test_all_arms_write_at_once_when_none_trains() -> None:
    need = Need(llm=100, own=1, passing=30, writing=20, positions=600)
    assert grouping.taken([need], 512) == 100 + 1 + 30
    assert grouping.taken([need] * 3, 512) == 100 + 3 + 60


def test_what_writing_takes_is_the_llm_s_cache(configured: Configured) -> None:
    config = configured(
        "decode.batch_size=2", "decode.beams=3", "decode.max_tokens=50", "train.precision=fp32"
    )
    found = cost(config)
    network = config.llm.build(torch.device("cpu"), torch.float32).network
    length = found.positions // config.train.micro_batch - (config.train.max_tokens - 1) + 50
    with torch.no_grad():
        cache = network(torch.zeros(6, length, dtype=torch.long), use_cache=True).past_key_values
    held = sum(
        part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values)
    )
    assert found.memory.writing == held


def test_there_is_room_and_several_processes_agree_on_it(configured: Configured) -> None:
    config = configured("train.device=cpu")
    assert grouping.room(config, 1) > 10**6
    assert grouping.room(config, 4) == grouping.room(config, 2) / 2
