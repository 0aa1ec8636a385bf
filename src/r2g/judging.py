"""Several runs' reports written together, and scored apart: at validations and at the end."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from r2g import assess, data, session
from r2g.core.types import Prediction
from r2g.member import Run, guarded
from r2g.plan import step_seed
from r2g.step import Arm

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


def validate(runs: Sequence[Run], arms: Sequence[Arm]) -> list[dict[str, float] | Exception]:
    """The validation scores that each arm's selection needs."""
    chosen = [next(run for run in runs if run.arm is arm) for arm in arms]
    splits = [data.first(run.ready.loaders.val, run.config.train.eval_studies) for run in chosen]
    metrics = [
        assess.metrics_for([term.score for term in run.config.train.select], run.config.score.metrics)
        for run in chosen
    ]
    readers = [i for i, wanted in enumerate(metrics) if wanted]
    found = _written([chosen[i] for i in readers], [splits[i] for i in readers], "validate")
    scored = dict(
        zip(readers, _scored([chosen[i] for i in readers], [metrics[i] for i in readers], found), strict=True)
    )

    def scores(i: int) -> dict[str, float]:
        setup = chosen[i].ready
        loss = assess.mean_loss(setup.model, splits[i], chosen[i].config.train, setup.accelerator)
        return {"loss": loss, **(_sound(scored[i]).corpus if i in scored else {})}

    return [guarded(run, partial(scores, i)) for i, run in enumerate(chosen)]


def examine(runs: Sequence[Run], accelerator: Accelerator) -> list[assess.Evaluation | Exception]:
    """Write and score the reports of the test split, with the controls that a run asks for."""
    splits = [data.first(run.ready.loaders.test, run.config.score.studies) for run in runs]
    written = _written(runs, splits, "write")
    scored = _scored(runs, [run.config.score.metrics for run in runs], written)
    asked = [run for run in runs if run.config.score.controls]
    blanks = _together(asked, lambda some: _blanks(some, accelerator)) if asked else []
    blank = dict(zip(map(id, asked), blanks, strict=True))

    def controlled(run: Run, outcome: assess.Evaluation | Exception) -> assess.Evaluation:
        if id(run) not in blank:
            return _sound(outcome)
        return session.controlled(run.config, run.ready, _sound(outcome), _sound(blank[id(run)]))

    return [guarded(run, partial(controlled, run, told)) for run, told in zip(runs, scored, strict=True)]


def _blanks(runs: Sequence[Run], accelerator: Accelerator) -> list[str]:
    return assess.blank_reports([run.ready.model for run in runs], runs[0].config.decode, accelerator)


def _written(
    runs: Sequence[Run], splits: Sequence[data.Studies], title: str
) -> list[list[Prediction] | Exception]:
    """Each run's reports on its split."""
    of = dict(zip(map(id, runs), splits, strict=True))

    def write(some: Sequence[Run]) -> list[list[Prediction]]:
        works = [(run.ready.model, of[id(run)]) for run in some]
        config = some[0].config
        return assess.predict_all(works, config.decode, config.train, some[0].accelerator, title)

    return _together(runs, write) if runs else []


def _scored(
    runs: Sequence[Run], metrics: Sequence[Mapping[str, Any]], written: Sequence[list[Prediction] | Exception]
) -> list[assess.Evaluation | Exception]:
    """Each run's reports scored; all of them in one go, and if that fails, one after the other."""

    def score(some: Sequence[int]) -> list[assess.Evaluation]:
        judges = [session.judge_for(runs[i].config, runs[i].ready) for i in some]
        works = zip(some, judges, strict=True)
        return assess.score_all([assess.Work(_sound(written[i]), metrics[i], judge) for i, judge in works])

    sound = [i for i, told in enumerate(written) if not isinstance(told, Exception)]
    scored: dict[int, assess.Evaluation] = {}
    if len(sound) > 1:
        try:
            scored = dict(zip(sound, score(sound), strict=True))
        except Exception as error:
            _LOG.warning("%s: %s; the arms are scored one after the other", type(error).__name__, error)

    def outcome(i: int) -> assess.Evaluation:
        return scored[i] if i in scored else score([i])[0]

    return [guarded(run, partial(outcome, i)) for i, run in enumerate(runs)]


def _together(runs: Sequence[Run], write: Callable[[Sequence[Run]], list[T]]) -> list[T | Exception]:
    """Write for all runs in one go; if that fails, and where sampling must not mix, for one after the other."""
    if len(runs) > 1 and not runs[0].config.decode.sample:
        try:
            return list(write(runs))
        except Exception as error:
            if runs[0].accelerator.num_processes > 1:
                raise
            _LOG.warning("%s: %s; the arms write one after the other", type(error).__name__, error)
    return [guarded(run, partial(_alone, run, write)) for run in runs]


def _alone(run: Run, write: Callable[[Sequence[Run]], list[T]]) -> T:
    step = 0 if run.arm is None else run.arm.progress.step
    torch.manual_seed(step_seed(run.config.seed, step, run.accelerator.process_index, -1))
    return write([run])[0]


def _sound(value: T | Exception) -> T:
    if isinstance(value, Exception):
        raise value
    return value
