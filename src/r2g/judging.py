"""Several runs' reports written together, and scored apart: at validations and at the end."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

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
    written = dict(zip(readers, found, strict=True))

    def scores(i: int) -> dict[str, float]:
        setup = chosen[i].ready
        loss = assess.mean_loss(setup.model, splits[i], chosen[i].config.train, setup.accelerator)
        if not metrics[i]:
            return {"loss": loss}
        judge = session.judge_for(chosen[i].config, setup)
        return {"loss": loss, **assess.score(_sound(written[i]), metrics[i], judge).corpus}

    return [guarded(run, partial(scores, i)) for i, run in enumerate(chosen)]


def examine(runs: Sequence[Run], accelerator: Accelerator) -> list[assess.Evaluation | Exception]:
    """Write and score the reports of the test split, with the controls that a run asks for."""
    splits = [data.first(run.ready.loaders.test, run.config.score.studies) for run in runs]
    written = _written(runs, splits, "write")
    asked = [run for run in runs if run.config.score.controls]
    blanks = _together(asked, lambda some: _blanks(some, accelerator)) if asked else []
    blank = dict(zip(map(id, asked), blanks, strict=True))

    def scored(run: Run, told: list[Prediction] | Exception) -> assess.Evaluation:
        black = _sound(blank[id(run)]) if id(run) in blank else None
        return session.scored(run.config, run.ready, _sound(told), black)

    return [guarded(run, partial(scored, run, told)) for run, told in zip(runs, written, strict=True)]


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
