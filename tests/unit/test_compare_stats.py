"""The statistics of a comparison, each against another way to the same figure."""

import math

import numpy as np
import pytest
import scipy.stats

from r2g.compare import stats
from r2g.compare.pace import Middle, Reached, middle
from r2g.core.resample import bootstrap


def test_a_mean_s_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=200)
    draws = bootstrap(200, 4000, seed=1) @ values / 200
    low, high = stats.interval(draws)
    ours = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", random_state=np.random.default_rng(2)
    ).confidence_interval
    assert low == pytest.approx(ours.low, abs=0.06 * (ours.high - ours.low))
    assert high == pytest.approx(ours.high, abs=0.06 * (ours.high - ours.low))


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.5])
def test_a_mean_s_p_value_is_that_of_all_swaps(shift: float) -> None:
    """Of 10 pairs there are 1,024 swaps: scipy goes through all of them."""
    draw = np.random.default_rng(3)
    one, other = draw.normal(shift, 1, 10), draw.normal(0, 1, 10)
    exact = scipy.stats.permutation_test(
        (one, other),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    moved = np.concatenate(list(stats.swaps(20_000, 10, seed=4)))
    assert moved.shape == (20_000, 10)
    assert set(np.unique(moved)) == {0.0, 1.0}
    permuted = (1 - 2 * moved) @ (one - other) / 10
    assert stats.p_value(float(np.mean(one - other)), permuted) == pytest.approx(exact, abs=0.012)


def test_a_p_value_is_never_zero_and_equal_differences_count() -> None:
    assert stats.p_value(1.0, np.zeros(99)) == pytest.approx(0.01)
    assert stats.p_value(0.3, np.array([0.1 + 0.2, -0.3, 0.0])) == pytest.approx(3 / 4)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert stats.holm([]) == []


def test_what_can_be_detected_is_found_in_four_of_five_cases() -> None:
    """A paired z-test on differences that are truly that large finds them with power 0.8."""
    draws = np.random.default_rng(5).normal(0, 0.02, 20_000)
    least = stats.detectable(draws, 1)
    assert least == pytest.approx(2.802 * np.std(draws, ddof=1), rel=1e-3)
    seen = np.random.default_rng(6).normal(least, 0.02, 20_000)
    assert np.mean(np.abs(seen) > 1.96 * 0.02) == pytest.approx(0.8, abs=0.015)
    assert stats.detectable(draws, 5) > least


def test_the_pareto_front_by_hand() -> None:
    costs, values = [10, 20, 20, 30, 40, 10], [1.0, 3.0, 2.0, 3.0, 4.0, 1.0]
    assert stats.pareto(costs, values) == [
        0,
        5,
        1,
        4,
    ]  # equal points beat neither; 30 costs more for the same


def _ran(steps: int, censored: bool | None = False) -> Reached:
    return Reached(0, "finished", censored, {"steps": steps, "flops": None}, None, steps)


def test_the_median_counts_censored_runs_as_later_than_all() -> None:
    assert middle([_ran(10), _ran(30), _ran(20)], "steps") == Middle(20.0, False)
    assert middle([_ran(10), _ran(30), _ran(5, True)], "steps") == Middle(30.0, False)
    assert middle([_ran(10), _ran(100, True), _ran(50, True)], "steps") == Middle(50.0, True)
    assert str(Middle(50.0, True)) == "> 50"
    assert middle([_ran(10), _ran(100, True)], "steps") == Middle(55.0, True)
    assert middle([_ran(10)], "flops") is None
    assert middle([_ran(10, None)], "steps") is None
    assert not math.isnan(stats.detectable(np.zeros(10), 1))
