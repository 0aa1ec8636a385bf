"""budget_match: the free setting that is solved for comes as near to the target as whole numbers can."""

import bisect
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest

from r2g import budget, show
from r2g.config import setting
from r2g.config.resolve import to_tree
from r2g.config.schema import BudgetMatch, RunConfig
from r2g.matching import learns, matched, solve
from r2g.record import run_id
from r2g.tuning import PlanError

_LINEAR = 4_206_592  # R2GenGPT's projector at Swin-B's and Llama-2-7B's widths


class _Counted:
    def __init__(self, count: Callable[[int], int]) -> None:
        self.count, self.calls = count, 0

    def __call__(self, value: int) -> int:
        self.calls += 1
        return self.count(value)


@pytest.mark.parametrize(
    ("count", "target", "value", "calls"),
    [
        (lambda v: 5_121 * v + 12_288, _LINEAR, 819, 5),
        (lambda v: 10 * v, 95, 9, 6),  # between two equals the smaller one
        (lambda v: 10 * v, 3, 1, 1),  # below the least
        (lambda v: v * v, 10_000, 100, 20),
        (lambda v: v * v + 3 * v, 10**9, 31_621, 40),
        (lambda v: 100 * min(v, 24), 10**6, 24, 20),  # there are 24 blocks
        (lambda v: 7 * min(v, 2), 100, 2, 6),
    ],
)
def test_the_nearest_value_is_found_in_few_looks(
    count: Callable[[int], int], target: float, value: int, calls: int
) -> None:
    counted = _Counted(count)
    assert solve(counted, float(target)) == value
    assert counted.calls <= calls


def test_any_rising_count_is_solved() -> None:
    numbers = random.Random(0)
    for _ in range(300):
        steps = [numbers.choice([1, 3, 50, 1_000]) for _ in range(numbers.randint(3, 60))]
        counts = [sum(steps[: i + 1]) for i in range(len(steps))]
        target = float(numbers.randint(0, counts[-1] + 50))
        found = solve(lambda v, counts=counts: counts[min(v, len(counts)) - 1], target)
        near = bisect.bisect_left(counts, target)
        best = min(abs(counts[i] - target) for i in (near - 1, near) if 0 <= i < len(counts))
        assert abs(counts[found - 1] - target) == best


def test_a_setting_that_changes_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="doesn't change how many parameters learn"):
        solve(lambda _: 5, 10.0)


@pytest.mark.parametrize(
    "target",
    [
        [f"budget_match.trainable={_LINEAR}"],
        ["+projector@budget_match.like.projector=linear"],
    ],
    ids=["number", "arm"],
)
@pytest.mark.slow
def test_an_mlp_of_the_size_of_r2gengpts_linear_projector(
    target: list[str], configured: Callable[..., RunConfig]
) -> None:
    words = ["+experiment=shallow_mimic", "projector=mlp", "budget_match.setting=projector.hidden", *target]
    config = matched(configured(*words))
    assert config.projector.hidden == 819
    assert learns(config) == 5_121 * 819 + 12_288
    assert abs(learns(config) - _LINEAR) < 0.01 * _LINEAR
    assert config.budget_match == BudgetMatch("projector.hidden", trainable=float(_LINEAR))
    assert matched(config) == config


@pytest.mark.parametrize(
    ("words", "key", "share"),
    [
        (["tuning=delta"], "tuning.adapters.encoder_lora.rank", 0.02),
        (["tuning=llm_lora"], "tuning.adapters.llm_lora.rank", 0.02),
        (["tuning=soft_prompt"], "tuning.adapters.prompt.length", 0.01),
        (["projector=qformer_lite", "projector.width=32"], "projector.queries", 0.01),
        (["tuning=last_blocks"], "tuning.rules.0.last", 5.0),  # a block is a large step
    ],
)
def test_every_kind_of_free_setting(
    words: list[str], key: str, share: float, configured: Callable[..., RunConfig]
) -> None:
    goal = 80_000
    config = matched(configured(*words, f"budget_match.setting={key}", f"budget_match.trainable={goal}"))
    value, reached = setting.read(config, key), learns(config)
    assert abs(reached - goal) < share * goal
    for other in {max(1, value - 1), value + 1} - {value}:
        assert abs(learns(setting.put(config, key, other)) - goal) >= abs(reached - goal)


def test_the_budget_tells_the_residual(configured: Callable[..., RunConfig]) -> None:
    words = ["projector=mlp", "budget_match.setting=projector.hidden", "budget_match.trainable=5e4"]
    found = budget.cost(configured(*words))
    match = found.budget["match"]
    assert match == {"setting": "projector.hidden", "value": 128, "target": 50_000, "residual": -144}
    assert found.budget["trainable"] == 49_856
    line = "budget_match: projector.hidden is 128, -144 (-0.288 %) from 50,000"
    assert show.match(match) == line
    assert line in budget.show(found)


def test_a_solved_arm_is_the_plain_run_of_that_setting(configured: Callable[..., RunConfig]) -> None:
    words = ["projector=mlp", "budget_match.setting=projector.hidden", "budget_match.trainable=5e4"]
    solved, plain = matched(configured(*words)), configured("projector=mlp", "projector.hidden=128")
    assert run_id(to_tree(solved)) == run_id(to_tree(plain))
    assert plain.budget_match is None
    assert dataclasses.replace(solved, budget_match=None) == plain


def test_what_a_setting_may_not_be_is_told(configured: Callable[..., RunConfig]) -> None:
    words = ["projector=qformer_lite", "budget_match.setting=projector.width", "budget_match.trainable=5e4"]
    with pytest.raises(PlanError, match="projector.width=1: width 1 must be a multiple of heads 4"):
        matched(configured(*words))


def test_settings_are_read_and_put_by_key(configured: Callable[..., RunConfig]) -> None:
    config: Any = configured("tuning=last_blocks")
    changed = setting.put(config, "tuning.rules[0].last", 3)
    assert setting.read(changed, "tuning.rules[0].last") == 3
    assert setting.read(config, "tuning.rules.0.last") == 1
    assert changed.tuning.rules[1:] == config.tuning.rules[1:]
    for key in ("tuning.rules[9].last", "projector.hiden", "seed.x"):
        with pytest.raises(KeyError):
            setting.put(config, key, 1)
