"""budget_match: the one free setting of an arm, solved for the number of parameters that shall learn."""

import dataclasses
import math
from collections.abc import Callable

import torch

from r2g import model, session, tuning
from r2g.config import setting
from r2g.config.schema import BudgetMatch, RunConfig

_MOST = 10**7  # no width, rank or length goes beyond


def matched(config: RunConfig) -> RunConfig:
    """The config with the free setting of its `budget_match` solved, if it has one; the target is a number then.

    Only shapes are computed: nothing is read or downloaded. Raises PlanError where nothing fits.
    """
    match = config.budget_match
    if match is None:
        return config
    target = match.trainable
    if match.like is not None:
        parts = {f.name: getattr(match.like, f.name) for f in dataclasses.fields(match.like)}
        target = float(
            learns(dataclasses.replace(config, **{k: v for k, v in parts.items() if v is not None}))
        )
    if target is None:
        raise tuning.PlanError("budget_match needs trainable or like")

    def count(value: int) -> int:
        try:
            return learns(setting.put(config, match.setting, value))
        except (KeyError, ValueError) as error:
            raise tuning.PlanError(f"budget_match.setting: {match.setting}={value}: {error}") from error

    value = solve(count, target)
    solved = setting.put(config, match.setting, value)
    return dataclasses.replace(solved, budget_match=BudgetMatch(match.setting, trainable=target))


def learns(config: RunConfig) -> int:
    """How many parameters learn."""
    whole = model.assemble(config, torch.device("meta"), session.DTYPES[config.train.precision])
    session.tune(whole, config)
    return sum(part.trainable for part in tuning.count(whole))


def solve(count: Callable[[int], int], target: float) -> int:
    """The whole number from 1 on whose count is nearest to the target; the smaller one of equals.

    `count` must not fall. Raises PlanError when it stays the same: then it is no free setting.
    """
    known: dict[int, int] = {}

    def at(value: int) -> int:
        if value not in known:
            known[value] = count(value)
        return known[value]

    low, high = _around(at, target)
    interpolate = True
    while high - low > 1:
        middle = (low + high) // 2
        if interpolate and at(high) > at(low):
            middle = low + round((target - at(low)) * (high - low) / (at(high) - at(low)))
        middle = min(max(middle, low + 1), high - 1)
        low, high = (middle, high) if at(middle) < target else (low, middle)
        interpolate = not interpolate
    return min((low, high), key=lambda value: (abs(at(value) - target), value))


def _around(at: Callable[[int], int], target: float) -> tuple[int, int]:
    """Two values with the target between their counts; the higher one has the most there is if that is less."""
    low, high = 1, 2
    if at(low) >= target:
        return low, low
    if at(low) == at(high):
        raise tuning.PlanError("budget_match.setting: it doesn't change how many parameters learn")
    while at(high) < target:
        slope = (at(high) - at(low)) / (high - low)
        further = min(_MOST, high + math.ceil((target - at(high)) / slope))
        if further == high or at(further) == at(high):
            return _first_with(at, low, high)
        low, high = high, further
    return low, high


def _first_with(at: Callable[[int], int], low: int, high: int) -> tuple[int, int]:
    """The count has stopped to grow: the neighbours between which it last did."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) == at(high) else (middle, high)
    return low, high
