"""Convergence figures on curves whose answers can be worked out by hand, and the table that shows them."""

import math

import pytest

from r2g.core import keys
from r2g.core.convergence import Curve, converge
from r2g.core.tables import table


def curve(loss: list[float], every: int = 10) -> Curve:
    """A curve with an entry every so many steps, 8 studies, 200 tokens and half a second a step."""
    steps = [every * (i + 1) for i in range(len(loss))]
    return Curve(steps, [8 * s for s in steps], [200 * s for s in steps], [0.5 * s for s in steps], loss)


def test_the_target_is_reached_where_it_holds() -> None:
    found = converge(curve([5.0, 1.9, 3.0, 1.9, 1.8, 1.7, 2.5]), target=2.0, window=1, hold=3)
    assert found.censored is False
    assert (found.steps_to_target, found.samples_to_target, found.tokens_to_target) == (40, 320, 8000)
    assert found.seconds_to_target == 20.0


@pytest.mark.parametrize("loss", [[5.0, 4.0, 3.0], [5.0, 1.0, 1.0], [5.0, math.nan, math.nan]])
def test_a_target_never_held_is_censored_not_dropped(loss: list[float]) -> None:
    found = converge(curve(loss), target=2.0, window=1, hold=3)
    assert found.censored is True
    assert found.steps_to_target is None
    assert found.summary()[keys.SECONDS_TO_TARGET] is None


def test_without_a_target_nothing_is_censored() -> None:
    assert converge(curve([2.0, 1.0])).censored is None


def test_smoothing_looks_back_only() -> None:
    assert converge(curve([4.0, 2.0, 6.0, 0.0]), window=2).smoothed == (4.0, 3.0, 4.0, 3.0)
    early = converge(curve([4.0, 2.0, 6.0]), window=2).smoothed
    assert converge(curve([4.0, 2.0, 6.0, 0.0]), window=2).smoothed[:3] == early


def test_one_infinite_loss_does_not_spoil_the_rest() -> None:
    found = converge(curve([4.0, math.inf, 1.0, 1.0, 1.0]), target=1.0, window=2, hold=1)
    assert found.steps_to_target == 40
    assert found.area is None


def test_area_is_the_mean_height_over_steps() -> None:
    assert converge(curve([4.0, 2.0, 0.0])).area == pytest.approx(2.0)
    uneven = Curve([0, 10, 100], [0, 1, 2], [0, 1, 2], [0.0, 1.0, 2.0], [4.0, 2.0, 2.0])
    assert converge(uneven).area == pytest.approx((10 * 3 + 90 * 2) / 100)
    assert converge(curve([3.0])).area == 3.0


def test_area_does_not_depend_on_how_often_is_logged() -> None:
    dense = converge(curve([10.0 - 0.1 * i for i in range(91)], every=1)).area
    coarse = converge(curve([10.0 - 1.0 * i for i in range(10)], every=10)).area
    assert dense == pytest.approx(coarse)


def test_plateau_starts_where_the_fall_ends() -> None:
    falling = [8.0 * 0.8**i for i in range(20)]
    found = converge(curve(falling + [falling[-1]] * 20), window=4, slope=0.01)
    assert found.plateau_step is not None
    assert 200 <= found.plateau_step <= 280
    assert converge(curve(falling), window=4, slope=0.01).plateau_step is None


def test_a_pause_is_no_plateau() -> None:
    pause = [8.0] * 20 + [8.0 * 0.8**i for i in range(10)]
    assert converge(curve(pause), window=4).plateau_step is None


def test_the_fall_is_counted_per_steps_not_per_entries() -> None:
    loss = [8.0 * 0.999**i for i in range(40)]
    assert converge(curve(loss, every=1), window=4, slope=0.01).plateau_step is None
    assert converge(curve(loss, every=100), window=4, slope=0.01).plateau_step == 500


def test_best_step_is_the_first_of_the_largest() -> None:
    assert converge(curve([1.0]), validation=[(10, 0.2), (20, 0.5), (30, 0.5)]).best_step == 20
    assert converge(curve([1.0])).best_step is None


@pytest.mark.parametrize("settings", [{"window": 0}, {"hold": 0}, {"slope": 0.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        converge(curve([1.0]), **settings)


def test_broken_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry at least"):
        Curve([], [], [], [], [])
    with pytest.raises(ValueError, match="as many"):
        Curve([1, 2], [1, 2], [1, 2], [1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="rise strictly"):
        Curve([2, 2], [1, 2], [1, 2], [1.0, 2.0], [1.0, 1.0])


def test_tables_align_and_refuse_ragged_rows() -> None:
    text = table(["part", "trainable", "F1"], [["llm", 6738415616, 0.5], ["projector", None, None]])
    assert text.splitlines() == [
        "part           trainable      F1",
        "---------  -------------  ------",
        "llm        6,738,415,616  0.5000",
        "projector              -       -",
    ]
    with pytest.raises(ValueError, match="2 cells"):
        table(["one"], [[1, 2]])
