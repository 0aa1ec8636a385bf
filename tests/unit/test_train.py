"""Schedules, evaluation steps and seeds of the loop."""

import dataclasses
import math
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from r2g.config.schema import RunConfig, Schedule, TrainSettings, Unit
from r2g.data import Studies, epoch_order
from r2g.encoders.base import Preprocess
from r2g.plan import eval_steps, learning_rate, plan_of, step_seed
from r2g.step import Arm, attempt


@pytest.fixture(scope="session")
def settings(configured: Callable[..., RunConfig]) -> TrainSettings:
    return dataclasses.replace(configured().train, learning_rate=1.0, floor=0.1, warmup_steps=0)


def test_warm_up_is_linear_and_never_zero(settings: TrainSettings) -> None:
    settings = dataclasses.replace(settings, warmup_steps=4)
    assert [learning_rate(settings, step, 20, 5) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_constant_stays(settings: TrainSettings) -> None:
    settings = dataclasses.replace(settings, schedule=Schedule.constant)
    assert {learning_rate(settings, step, 20, 5) for step in range(20)} == {1.0}


def test_cosine_falls_to_the_floor(settings: TrainSettings) -> None:
    rates = [learning_rate(settings, step, 20, 5) for step in range(21)]
    assert rates[0] == 1.0
    assert rates[10] == pytest.approx(0.55)
    assert rates[20] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)


def test_counted_in_epochs_the_rate_moves_once_an_epoch(settings: TrainSettings) -> None:
    settings = dataclasses.replace(settings, schedule_unit=Unit.epoch)
    rates = [learning_rate(settings, step, 15, 5) for step in range(15)]
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(3)]
    assert rates == pytest.approx([rate for rate in expected for _ in range(5)])


@pytest.mark.parametrize(
    ("total", "evals", "expected"),
    [(10, 1, {10}), (10, 2, {5, 10}), (10, 3, {3, 7, 10}), (2, 5, {1, 2}), (1, 3, {1})],
)
def test_evaluations_are_spread_and_end_with_the_run(total: int, evals: int, expected: set[int]) -> None:
    assert eval_steps(total, evals) == expected


def test_step_seeds_differ_and_repeat() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(200) for rank in range(4)}
    assert len(seeds) == 5 * 200 * 4
    assert step_seed(2, 7, 1) == step_seed(2, 7, 1)
    assert step_seed(10**15, 10**9, 10**4) >= 0


def _studies(count: int) -> Studies:
    rows = {"id": [str(i) for i in range(count)], "report": ["x"] * count}
    rows |= {"image_path": [[]] * count, "labels": [None] * count}
    return Studies(rows, Preprocess(8, (0.5,), (0.25,)), 1, [[1] * (1 + i % 3) for i in range(count)])


def test_what_a_run_looks_at_is_known_before_also_where_each_epoch_drops_others(
    configured: Callable[..., RunConfig],
) -> None:
    studies = _studies(10)
    words = ("train.batch_size=4", "train.micro_batch=4", "train.drop_last=true")
    for steps in (1, 2, 7):
        config = configured(*words, f"train.steps={steps}")
        plan = plan_of(studies, config)
        assert plan.per_epoch == 2
        epochs = [epoch_order(studies.lengths, config.train, config.seed, epoch) for epoch in range(4)]
        read = {i for batch in [batch for order in epochs for batch in order][:steps] for i in batch}
        assert read <= set(plan.seen())
        assert steps > 2 or set(plan.seen()) == read


def test_an_arm_that_failed_keeps_its_error_and_not_what_it_had_in_hand() -> None:
    """Its tensors would take room as long as the others train."""
    held: list[weakref.ref[torch.Tensor]] = []

    def fail() -> None:
        logits = torch.zeros(8)
        held.append(weakref.ref(logits))
        raise ValueError("no room for the logits")

    arm = Arm.__new__(Arm)
    arm.folder, arm.error = Path("x"), None
    assert attempt(arm, Accelerator(cpu=True), fail) is None
    assert held[0]() is None
    assert str(arm.error) == "no room for the logits"
    assert arm.error is not None
    assert arm.error.__traceback__ is not None
