"""Runs from settings to records on one resident llm; a single run is a gang of one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from r2g import assess, data, record, resident, session, show, thumbnails, train, walk
from r2g.config.resolve import to_tree
from r2g.config.schema import RunConfig
from r2g.core import filing
from r2g.core.memory import Peak
from r2g.core.stopping import Interrupted, Terminable
from r2g.core.types import Flops
from r2g.datasets._fingerprint import fingerprint, image_hashes
from r2g.halving import Halved, Halving, warn_of_turns
from r2g.judging import examine, validate
from r2g.member import End, Run, fail_all, tried
from r2g.session import RunFailed, Setup
from r2g.step import Arm


@dataclass(frozen=True)
class Job:
    """A run that is asked for."""

    config: RunConfig
    choices: Mapping[str, str]


def execute(config: RunConfig, choices: Mapping[str, str]) -> Path:
    """Train, evaluate and record; a finished run of the same config is left as it is. Gives the record's folder.

    Raises RunFailed after writing a record with the error, or when a finished record was made from other data.
    """
    end = execute_gang([Job(config, choices)])[0]
    if end.error is not None:
        raise end.error
    return end.record


def execute_gang(jobs: Sequence[Job], halving: Halving | None = None) -> list[End]:
    """The same for runs that share llm, data, decoding, precision and length of reports: side by side on one llm.

    Runs whose tuning mode changes the llm train afterwards, each in its turn, on the same weights in memory. A run
    that fails leaves the others alone. With `halving`, runs that train side by side compete, and one that left such a
    search before is left as it is. Raises ValueError for runs that don't share what they must, and on several
    processes what only one of them may have seen.
    """
    if len({gang_key(job.config) for job in jobs}) > 1:
        raise ValueError("these runs can't share an llm: see r2g.gang.gang_key")
    accelerator = session.make_accelerator(jobs[0].config)
    opened = [_opened(job, accelerator) for job in jobs]
    runs = {run.folder.final: run for run in opened}  # the same run asked for twice is one
    try:
        _go(list(runs.values()), accelerator, halving)
        accelerator.wait_for_everyone()
    except (KeyboardInterrupt, Interrupted, Exception) as error:
        fail_all(runs.values(), error)
        if accelerator.num_processes > 1 and len(runs) > 1:
            raise  # the other processes may stand elsewhere: this launch is over
    ends = [runs[run.folder.final].end for run in opened]
    return [end for end in ends if end is not None]


def gang_key(config: RunConfig) -> str:
    """Equal for runs that can share an llm and its batches."""
    settings = config.train
    same = (settings.precision, settings.max_tokens, settings.device, settings.processes)
    parts = (config.llm, config.data, config.decode, config.paths.cache, *same)
    return repr([to_tree(part) for part in parts])


def _opened(job: Job, accelerator: Accelerator) -> Run:
    tree = to_tree(job.config)
    identity = record.run_id(tree)
    folder = record.folder_of(job.config.paths.outputs, job.config.name, identity)
    frame = session.frame_of(job.config, tree, job.choices, identity, accelerator)
    return Run(job.config, folder, frame, accelerator)


def _go(runs: Sequence[Run], accelerator: Accelerator, halving: Halving | None) -> None:
    config = runs[0].config
    _watch(runs)
    raw = session.on_main_first(accelerator, lambda: config.data.load(config.paths.cache, config.seed))
    print_ = fingerprint(raw, config.paths.cache)
    for run in runs:
        tried(run, partial(_check, run, raw, print_, halving))
    waiting = [run for run in runs if run.end is None]
    if not waiting:
        return
    if len(waiting) == 1:
        _mark(waiting, {"how": "solo"})
        tried(waiting[0], partial(_prepare, waiting[0], raw, print_))
        _train(waiting, accelerator, halving)
        return
    shared = resident.reside(config, accelerator.device, session.DTYPES[config.train.precision])
    hashes = image_hashes(raw, config.paths.cache)
    prepare = partial(_join, raw=raw, print_=print_, shared=shared, hashes=hashes)
    gang = [run for run in waiting if tried(run, partial(prepare, run))]
    turns = [run for run in waiting if run.end is None and run not in gang]
    _mark(gang, {"how": "gang" if len(gang) > 1 else "turn", "arms": len(gang)})
    if halving is not None:
        warn_of_turns([run.folder.final.name for run in turns])
    _train(gang, accelerator, halving)
    for run in turns:  # one at a time, so that the memory of one is enough
        _watch([run])
        _mark([run], {"how": "turn", "arms": 1})
        tried(run, partial(prepare, run, alone=True))
        _train([run], accelerator)


def _check(run: Run, raw: Any, print_: str, halving: Halving | None) -> None:
    """What there is of this run: a finished record, a beginning on this data, or nothing."""
    if run.folder.finished() is None:
        run.hold()
    done = run.folder.finished()  # perhaps by the launch that held it until now
    if done is not None:
        session.already(done, print_, run.folder, run.accelerator)
        run.over(End("already there", run.folder.final, best=done["training"].get("best")))
        return
    if halving is not None:
        session.require_ranked(run.config, halving.metric)
    session.require_selectable(run.config, raw)
    session.require_same_data(run.folder.partial, print_)
    path = run.folder.partial
    before = record.read(path) if (path / "record.json").is_file() else {}
    error = before.get("error", {})
    if halving is not None and error.get("type") == Halved.__name__:
        best = before.get("training", {}).get("best")
        run.over(End("halved", path, RunFailed(error["message"]), best))
        return
    run.frame["data"]["fingerprint"] = print_


def _mark(runs: Sequence[Run], ran: Mapping[str, Any]) -> None:
    """Say in the record how the run was trained: seconds compare among solo runs only."""
    for run in runs:
        path = run.folder.partial
        begun = (path / "checkpoints").is_dir() and (path / "record.json").is_file()
        before = record.read(path).get("ran", ran) if begun else ran
        run.frame["ran"] = dict(ran) if before == ran else {"how": "mixed"}


def _watch(runs: Sequence[Run]) -> None:
    """From here on their memory counts, and no longer that of runs before them in this process."""
    peak = Peak(runs[0].accelerator.device)
    for run in runs:
        run.peak = peak


def _prepare(run: Run, raw: Any, print_: str) -> None:
    run.setup = _priced(run, session.prepare(run.config, raw, print_, run.accelerator), {})


def _join(
    run: Run,
    raw: Any,
    print_: str,
    shared: resident.Resident,
    hashes: Mapping[str, str],
    alone: bool = False,
) -> bool:
    """Prepare a run on the resident llm. One that would change it isn't prepared, and doesn't join, unless `alone`."""
    config, accelerator = run.config, run.accelerator
    whole, groups = session.build(config, accelerator, resident.view(shared.llm))
    if not resident.settle(whole, config, shared) and not alone:
        return False
    preprocess: Any = whole.encoder.preprocess
    if shared.loaders is None:
        shared.loaders = data.load(raw, preprocess, config.data.views, whole.llm, config.train, print_)
    loaders = shared.loaders.seen_by(preprocess)
    reuse = session.keep_frozen_work(config, whole, loaders, raw, data.SPLITS, accelerator, hashes)
    setup = Setup(accelerator, whole, groups, loaders, session.budget_of(whole, config), reuse)
    run.setup = _priced(run, setup, shared.flops)
    return True


def _priced(run: Run, setup: Setup, known: dict[str, Flops]) -> Setup:
    """The same with FLOPs in its budget; `known` are those of arms, for all seeds."""
    told = walk.told(run.config, setup.model.llm.prompt, run.frame["arm"], known)
    return replace(setup, budget=setup.budget | told)


def _train(runs: Sequence[Run], accelerator: Accelerator, halving: Halving | None = None) -> None:
    """Train, evaluate and record runs that are prepared; an error in what they share is theirs alone."""
    with Terminable() as asked:
        try:
            _train_and_score(runs, accelerator, asked, halving)
        except Interrupted as error:
            fail_all(runs, error)
            raise
        except Exception as error:
            if accelerator.num_processes > 1:
                raise
            fail_all(runs, error)


def _train_and_score(
    runs: Sequence[Run], accelerator: Accelerator, asked: Terminable, halving: Halving | None
) -> None:
    for run in runs:
        if run.end is None:
            tried(run, partial(_begin, run))
    going = [run for run in runs if run.end is None]
    arms = [run.arm for run in going if run.arm is not None]
    if not going:
        return
    fitted = train.fit(arms, accelerator, partial(validate, going), asked, halving)
    trained: list[tuple[Run, train.FitResult]] = []
    for run, result in zip(going, fitted, strict=True):
        if isinstance(result, Exception):
            run.fail(result)
        else:
            trained.append((run, result))
    with asked.at_once("writing and scoring reports"):
        outcomes = examine([run for run, _ in trained], accelerator)
    for (run, result), outcome in zip(trained, outcomes, strict=True):
        if isinstance(outcome, Exception):
            run.fail(outcome)
        else:
            tried(run, partial(_record, run, result, outcome))


def _begin(run: Run) -> None:
    setup, partial_ = run.ready, run.folder.partial
    session.require_same_trainable(partial_, setup.budget)
    if run.accelerator.is_main_process:
        partial_.mkdir(parents=True, exist_ok=True)
        row = {**run.frame, "status": "running", "budget": setup.budget}
        record.write_json(partial_ / "record.json", row)
        if run.config.data.shareable:
            thumbnails.write(partial_, data.first(setup.loaders.test, run.config.score.studies))
        show.title(run.config, run.frame)
        show.budget(setup.budget)
    run.accelerator.wait_for_everyone()
    run.tracker = session.track(run.config, run.frame, partial_)
    run.arm = Arm(run.config, setup.model, setup.groups, setup.loaders.train, partial_, run.tracker)


def _record(run: Run, fitted: train.FitResult, outcome: assess.Evaluation) -> None:
    setup, folder = run.ready, run.folder
    peak = {} if run.peak is None else run.peak.told()
    result = session.result_of(run.frame, setup, fitted, outcome, peak)
    run.tracker.summary(filing.summary(result))
    run.tracker.finish()
    run.tracker = None
    if run.accelerator.is_main_process:
        session.write_evaluation(folder.partial, outcome)
        row = result | {"wall_seconds": time.time() - run.started}
        record.write_json(folder.partial / "record.json", row)
        folder.finish()
        show.title(run.config, run.frame)
        show.curve(fitted)
        show.end(result, outcome, folder.final)
    run.accelerator.wait_for_everyone()
    run.over(End("finished", folder.final, best=fitted.progress.best))
