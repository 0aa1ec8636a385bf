"""Who passes a rung of a search, and who leaves it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import DictConfig

from hydra_plugins.r2g_gang_launcher import launcher
from hydra_plugins.r2g_gang_launcher._settings import said_in
from r2g import gang, grouping
from r2g.checkpoint import Progress
from r2g.config.schema import RunConfig
from r2g.core.outcome import read_outcome
from r2g.halving import Halved, Halving, note, recall, remember, warn_of_split, warn_of_turns
from r2g.member import End
from r2g.step import Arm

Made = Callable[..., Arm]
_EVALS = (5, 10, 15, 20, 25)


@pytest.fixture(scope="module")
def made(configured: Callable[..., RunConfig]) -> Made:
    """A run at the last of its validations, whose losses are given; no model."""
    base = configured("name=search")

    def build(
        losses: Sequence[float], seed: int = 0, rate: float = 1e-3, evals: Sequence[int] = _EVALS
    ) -> Arm:
        run = Arm.__new__(Arm)
        train = dataclasses.replace(base.train, learning_rate=rate)
        run.config = dataclasses.replace(base, seed=seed, train=train)
        run.plan: Any = SimpleNamespace(evals=frozenset(evals), total=max(evals))
        run.folder, run.progress, run.judged, run.ended, run.error = Path("x"), Progress(), {}, False, None
        for step, loss in zip(evals, losses, strict=False):
            run.progress.step = step
            note(run, {"loss": loss, "label_f1/Edema": 0.0})
        return run

    return build


def _rungs(runs: Sequence[Arm]) -> list[int]:
    return [run.progress.extra.get("rung", 0) for run in runs]


def test_the_best_pass_once_all_wait(made: Made) -> None:
    halving = Halving(eta=2.0, metric="loss", rungs=(1, 2), keep=1)
    early = made([])
    runs = [made([loss], rate=i / 1e3) for i, loss in enumerate((2.0, 1.0, float("nan")), 1)] + [early]
    early.progress.step = 4
    assert halving.cut(runs) == []
    assert halving.going(runs) == [early]
    runs.pop()
    assert halving.cut(runs) == [runs[2]]
    assert _rungs(runs) == [1, 1, 0]
    assert str(runs[2].error) == "number 3 of 3 by loss (nan) after 5 steps"
    assert halving.cut(runs) == []


def test_arms_that_stand_beyond_a_rung_are_ranked_by_what_they_were_worth_there(made: Made) -> None:
    halving = Halving(eta=2.0, metric="loss", rungs=(1, 2), keep=1)
    far, near = made([3.0, 1.0, 0.5], rate=1e-3), made([2.0, 2.0], rate=1e-4)
    assert halving.cut([far, near]) == [far]
    assert "(3) after 5 steps" in str(far.error)
    assert halving.cut([far, near]) == []
    assert _rungs([far, near]) == [0, 2]
    assert halving.going([near]) == [near]


def test_a_run_that_comes_late_has_to_be_as_good_as_those_that_passed(made: Made) -> None:
    halving = Halving(eta=2.0, metric="loss", rungs=(1,), keep=1)
    passed = made([1.0], rate=1e-3)
    assert halving.cut([passed]) == []
    passed.progress.step, passed.ended = 25, True
    worse, better = made([2.0], rate=1e-4), made([0.5], rate=1e-5)
    assert halving.cut([passed, worse]) == [worse]
    assert halving.cut([passed, better]) == []
    assert _rungs([passed, worse, better]) == [1, 0, 1]
    assert passed.error is None


def test_an_arm_is_worth_the_mean_of_its_seeds_which_stay_together(made: Made) -> None:
    halving = Halving(eta=2.0, metric="loss", rungs=(1,), keep=1)
    uneven = [made([loss], seed, rate=1e-3) for seed, loss in enumerate((0.1, 3.0))]
    even = [made([loss], seed, rate=1e-4) for seed, loss in enumerate((1.0, 1.2))]
    assert halving.cut([*uneven, *even]) == uneven
    assert str(uneven[0].error) == "number 2 of 2 by loss (1.55, the mean of 2 seeds) after 5 steps"
    assert _rungs(even) == [1, 1]


def test_keep_counts_arms(made: Made) -> None:
    halving = Halving(eta=9.0, metric="loss", rungs=(1,), keep=2)
    runs = [made([loss], seed, rate=loss / 1e3) for loss in (1.0, 2.0, 3.0) for seed in (0, 1)]
    assert halving.cut(runs) == runs[4:]


def test_an_arm_is_not_judged_by_the_seeds_that_did_not_diverge(made: Made) -> None:
    halving = Halving(eta=2.0, metric="loss", rungs=(1,), keep=1)
    good, diverged, other = made([0.1], 0), made([], 1), made([1.0], 0, rate=1e-4)
    diverged.error = FloatingPointError("the loss is nan")
    assert halving.cut([good, diverged, other]) == [good]
    assert "(0.1, a seed diverged)" in str(good.error)


def test_a_seed_that_comes_late_goes_where_its_arm_went(made: Made) -> None:
    halving = Halving(eta=2.0, metric="loss", rungs=(1,), keep=1)
    first, other = made([1.0], 0), made([2.0], 0, rate=1e-4)
    assert halving.cut([first, other]) == [other]
    late = made([9.0], 1)
    assert halving.cut([late, first, other]) == []  # `first` is on its way to the end
    first.ended = True
    assert halving.cut([late, first, other]) == []
    assert late.progress.extra["rung"] == 1


def test_a_search_that_is_split_says_so(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_split(1, "max_arms")
    warn_of_turns([])
    assert not caplog.records
    warn_of_split(3, "max_arms")
    assert "split into 3 gangs" in caplog.text
    assert "Raise hydra.launcher.max_arms and memory_gb" in caplog.text


def test_validations_of_earlier_attempts_come_from_the_curve(made: Made) -> None:
    run = made([])
    remember(run, [{"step": 5, "train/loss": 9.0}, {"step": 5, "val/loss": 2.0, "val/f1/Edema": 1.0}])
    assert run.judged == {5: {"loss": 2.0}}
    run.progress.step = 10
    halving = Halving(eta=2.0, metric="loss", rungs=(1, 2), keep=1)
    assert halving.cut([run]) == []
    with pytest.raises(RuntimeError, match="has no validation at step 10"):
        halving.cut([run])


def test_one_that_left_stays_out_of_searches_alone(made: Made) -> None:
    run = made([1.0])
    run.progress.extra["left"] = "number 2 of 2"
    recall(run, search=True)
    assert isinstance(run.error, Halved)
    again = made([1.0])
    again.progress.extra["left"] = "number 2 of 2"
    recall(again, search=False)
    assert again.error is None
    assert again.progress.extra.keys() == {"val"}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_gang_launcher_says_that_a_search_is_split_and_what_a_halved_arm_was_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, elsewhere: bool
) -> None:
    """On another launcher's worker also in a file, which that launcher repeats, and in words of its settings."""
    job = SimpleNamespace(config=None)
    monkeypatch.setattr(launcher, "_job_of", lambda tree: job)
    monkeypatch.setattr(grouping, "groups_of", lambda *_: [[0], [1]])
    ends = iter([End("halved", Path("a"), best=0.4), End("finished", Path("b"), best=0.7)])

    def execute(jobs: object, halving: object) -> list[End]:
        """Word of the first gang's arm is there before the second one begins, which may be killed."""
        end = next(ends)
        first, second = (read_outcome(tmp_path / name) for name in ("0", "1"))
        assert second is None
        assert (first is None) if end.status == "halved" else (first is not None and first.objective == 0.4)
        return [end]

    monkeypatch.setattr(gang, "execute_gang", execute)
    search = {"eta": 3.0, "metric": "select", "rungs": [1], "keep": 1}
    gangs = launcher.GangLauncher(1, None, search, jobs=str(tmp_path / "jobs.json") if elsewhere else None)
    with launcher._written_down(said_in(tmp_path) if elsewhere else None):
        told = gangs._run_all(
            [DictConfig({})] * 2, ["one", "two"], [str(tmp_path / "0"), str(tmp_path / "1")]
        )
    left = read_outcome(tmp_path / "1")
    assert left is not None
    assert left.objective == 0.7
    assert [(end.status, end.objective) for end in told] == [("halved", 0.4), ("finished", 0.7)]
    assert "the search is split into 2 gangs" in caplog.text
    assert f"Raise hydra.launcher.{'gang' if elsewhere else 'max_arms'} and memory_gb" in caplog.text
    written = said_in(tmp_path).read_text() if elsewhere else caplog.messages[0] + "\n"
    assert written == caplog.messages[0] + "\n"
