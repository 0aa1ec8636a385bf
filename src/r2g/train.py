"""The training loop: one for one arm or many, the same on one process or several, exact after a restart."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from r2g import checkpoint
from r2g.checkpoint import Progress
from r2g.core import keys
from r2g.core.convergence import Convergence, Curve, converge
from r2g.core.stopping import Interrupted, Terminable
from r2g.data import Share, collate_for
from r2g.halving import Halving, note, recall, remember
from r2g.plan import plan_of
from r2g.record import append_line, read_lines, write_lines
from r2g.step import Arm, advance, attempt, optimizer_of, scaler_of
from r2g.tuning import set_modes, trainable

_LOG = logging.getLogger(__name__)
_SCALER = "scaler"  # in a checkpoint's Progress.extra: fp16's loss scale, empty in other precisions
_FLUSH = 10  # steps between reads of the loss: each read waits for the device
# The validation scores of each arm, or why an arm has none.
Validate = Callable[[Sequence[Arm]], Sequence[dict[str, float] | Exception]]


@dataclass(frozen=True)
class FitResult:
    """How training went."""

    progress: Progress
    convergence: Convergence
    curve: tuple[dict[str, Any], ...]


class _Watch:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self.since = time.perf_counter()

    def lap(self) -> float:
        before, self.since = self.since, time.perf_counter()
        return self.since - before


def fit(
    arms: Sequence[Arm],
    accelerator: Accelerator,
    validate: Validate,
    asked: Terminable,
    halving: Halving | None = None,
) -> list[FitResult | Exception]:
    """Train the arms side by side, each to its own best checkpoint; an arm that fails gives its error instead.

    Several arms must share their llm's network, frozen and at rest. With `halving`, losing arms leave early, each
    with a checkpoint and the error Halved. After a SIGTERM (`asked`) the loop finishes its step, saves each arm and
    raises Interrupted. An arm that ends is saved too, so that what follows can be done again without training.
    """
    if len({id(arm.model.llm.network) for arm in arms}) > 1:
        raise ValueError("arms that train side by side must share one llm")
    for arm in arms:
        attempt(arm, accelerator, partial(start, arm, accelerator))
        recall(arm, halving is not None)
    quiet = None if accelerator.is_main_process else True
    began = max((arm.progress.step for arm in arms if arm.trains), default=0)
    total = max((arm.plan.total for arm in arms if arm.trains), default=0)
    with logging_redirect_tqdm(), tqdm(total=total, initial=began, desc="train", disable=quiet) as bar:
        watch, saved = _Watch(), time.monotonic()
        while live := _going(arms, accelerator, halving):
            advance(live, accelerator)
            _count(live, watch)
            minutes = (time.monotonic() - saved) / 60
            late = [minutes > arm.config.train.checkpoint_minutes for arm in live]
            stop, *due = _any([asked.flag, *late], accelerator)
            if any(due):
                saved = time.monotonic()
            _settle(live, due, stop, accelerator, validate, watch)
            _show(bar, live)
            if stop and any(arm.trains for arm in arms):
                _interrupt(arms, live, accelerator)
    for arm in arms:
        if arm.trains:
            arm.error = RuntimeError(
                f"left at step {arm.progress.step} of {arm.plan.total}: nothing let it go on"
            )
    done = [arm.error or attempt(arm, accelerator, partial(finish, arm, accelerator)) for arm in arms]
    return [each or arm.error or RuntimeError("no result") for each, arm in zip(done, arms, strict=True)]


def _interrupt(arms: Sequence[Arm], saved: Sequence[Arm], accelerator: Accelerator) -> NoReturn:
    """Leave the loop; those that wait at a rung are saved now, the others are."""
    left = [arm for arm in arms if arm.trains]
    for arm in left:
        if arm not in saved:
            attempt(arm, accelerator, partial(save, arm, accelerator))
    raise Interrupted(f"asked to stop at step {left[0].progress.step} of {left[0].plan.total}")


def _going(arms: Sequence[Arm], accelerator: Accelerator, halving: Halving | None) -> list[Arm]:
    """The arms that make the next step; at a rung, those that lose leave with a checkpoint.

    Arms that are taken up may stand beyond several rungs.
    """
    for _ in halving.rungs if halving else ():
        live = [arm for arm in arms if arm.trains]
        if halving is None or halving.going(live):
            break
        if left := halving.cut(arms):
            for arm in [*(arm for arm in live if arm.trains), *left]:  # so that a restart doesn't cut anew
                attempt(arm, accelerator, partial(save, arm, accelerator))
    live = [arm for arm in arms if arm.trains]
    return live if halving is None else halving.going(live)


def _count(arms: Sequence[Arm], watch: _Watch) -> None:
    """Training time: in a gang, each arm's is the whole gang's."""
    seconds = watch.lap()
    for arm in arms:
        arm.progress.seconds += seconds
        if arm.pending:
            arm.pending[-1].setdefault(keys.SECONDS, arm.progress.seconds)


def _settle(
    arms: Sequence[Arm],
    late: Sequence[bool],
    stop: bool,
    accelerator: Accelerator,
    validate: Validate,
    watch: _Watch,
) -> None:
    """After a step: read losses, validate the arms whose time has come, save those that go on."""
    for arm in arms:
        if arm.trains and (len(arm.pending) >= _FLUSH or _judged(arm) or stop):
            attempt(arm, accelerator, partial(flush, arm, accelerator))
    _count(arms, watch)
    judge([arm for arm in arms if arm.trains and _judged(arm)], accelerator, validate)
    for arm, by_time in zip(arms, late, strict=True):
        if not arm.trains:
            continue
        arm.ended = over(arm)
        steps = arm.config.train.checkpoint_steps
        by_step = steps is not None and arm.progress.step % steps == 0
        if arm.ended or stop or by_time or by_step:
            attempt(arm, accelerator, partial(save, arm, accelerator))
    watch.lap()


def _judged(arm: Arm) -> bool:
    return arm.progress.step in arm.plan.evals


def over(arm: Arm) -> bool:
    """Whether the run is at its end: all steps made, or its patience run out."""
    patience = arm.config.train.patience
    return arm.progress.step >= arm.plan.total or (patience is not None and arm.progress.stale >= patience)


def _show(bar: Any, arms: Sequence[Arm]) -> None:
    bar.update(max(arm.progress.step for arm in arms) - bar.n)
    if len(arms) > 1:
        bar.set_postfix(arms=sum(arm.trains for arm in arms), refresh=False)


def start(arm: Arm, accelerator: Accelerator) -> None:
    """Make the optimizer, take up a checkpoint if there is one, cut the curve back to it."""
    settings = arm.config.train
    arm.plan = plan_of(arm.studies, arm.config)
    arm.optimizer = optimizer_of(arm.model, arm.groups, settings)
    arm.scaler = scaler_of(settings, accelerator.device)
    found = checkpoint.restore(arm.folder / "checkpoints", arm.model, arm.optimizer)
    if found is not None:
        arm.progress = found
        arm.progress.attempts += 1
        arm.scaler.load_state_dict(found.extra.pop(_SCALER, arm.scaler.state_dict()))
    if accelerator.is_main_process:
        rows = [r for r in read_lines(arm.curve_file) if r[keys.STEP] <= arm.progress.step]
        write_lines(arm.curve_file, rows)
        if rows and arm.tracker is not None:
            arm.tracker.replay(rows)
    accelerator.wait_for_everyone()
    remember(arm, read_lines(arm.curve_file))
    set_modes(arm.model, arm.config.tuning.frozen_mode)
    share = Share(accelerator.process_index, accelerator.num_processes)
    collate = collate_for(arm.studies, arm.model.llm, settings)
    arm.stream = arm.plan.stream(arm.progress.step, share, collate)
    arm.ended = over(arm)


def flush(arm: Arm, accelerator: Accelerator) -> None:
    """Read the pending losses, write them to the curve and tell the tracker.

    Nothing is saved or judged before: a loss or gradient that isn't finite has spoiled the parameters by then.
    """
    if not arm.pending:
        return
    sums = accelerator.reduce(torch.stack([row[keys.TRAIN_LOSS][0] for row in arm.pending]), "sum").tolist()
    for row, total in zip(arm.pending, sums, strict=True):
        row[keys.TRAIN_LOSS] = total / max(1, row[keys.TRAIN_LOSS][1])
        row[keys.TRAIN_GRAD_NORM] = norm = float(row[keys.TRAIN_GRAD_NORM])
        if not math.isfinite(row[keys.TRAIN_LOSS]):
            raise FloatingPointError(f"the loss is {row[keys.TRAIN_LOSS]} at step {row[keys.STEP]}")
        if not (math.isfinite(norm) or arm.scaler.is_enabled()):  # fp16's scaler leaves such an update out
            raise FloatingPointError(f"the gradient's norm is {norm} at step {row[keys.STEP]}")
        if accelerator.is_main_process:
            append_line(arm.curve_file, row)
            if arm.tracker is not None:
                arm.tracker.log(row, step=row[keys.STEP])
    arm.pending.clear()


def judge(arms: Sequence[Arm], accelerator: Accelerator, validate: Validate) -> None:
    """Validate; keep the checkpoint of an arm that is the best so far."""
    if not arms:
        return
    for arm in arms:
        _one_of_all(arm, accelerator)
        arm.model.eval()
    found = validate(arms)
    for arm in arms:
        set_modes(arm.model, arm.config.tuning.frozen_mode)
    for arm, scores in zip(arms, found, strict=True):
        if isinstance(scores, Exception):
            arm.error = scores
        else:
            attempt(arm, accelerator, partial(_rank, arm, scores, accelerator))


def _rank(arm: Arm, scores: Mapping[str, float], accelerator: Accelerator) -> None:
    value = sum(term.weight * scores[term.score] for term in arm.config.train.select)
    progress = arm.progress
    note(arm, {**scores, "select": value})
    row = {keys.val(name): score for name, score in scores.items()} | {keys.VAL_SELECT: value}
    axes = {keys.STEP: progress.step, keys.SAMPLES: progress.samples, keys.TOKENS: progress.tokens}
    axes[keys.SECONDS] = progress.seconds  # type: ignore[assignment]
    if progress.best is None or value > progress.best:
        progress.best, progress.best_step, progress.stale = value, progress.step, 0
        if accelerator.is_main_process:
            checkpoint.save_trained(arm.model, arm.best_file)
    else:
        progress.stale += 1
    if accelerator.is_main_process:
        told = f"{value:.3f}" + (", the best so far" if progress.stale == 0 else "")
        where = f"{arm.folder.stem}: step {progress.step} of {arm.plan.total}"
        _LOG.info("%s: val loss %.3f, selection %s", where, scores["loss"], told)
        append_line(arm.curve_file, {**axes, **row})
        if arm.tracker is not None:
            arm.tracker.log({**axes, **row}, step=progress.step)


def _one_of_all(arm: Arm, accelerator: Accelerator) -> None:
    """Running statistics are those of the first process, as a checkpoint's are."""
    if accelerator.num_processes == 1:
        return
    learns = trainable(arm.model)
    for name, tensor in checkpoint.trained_state(arm.model).items():
        if name not in learns and tensor.is_floating_point():
            torch.distributed.broadcast(tensor, 0)


def save(arm: Arm, accelerator: Accelerator) -> None:
    """Write a checkpoint; the curve is flushed first, so that it is never behind."""
    flush(arm, accelerator)
    if accelerator.is_main_process:
        extra = {**arm.progress.extra, _SCALER: arm.scaler.state_dict()}
        checkpoint.save(
            arm.folder / "checkpoints", arm.model, arm.optimizer, replace(arm.progress, extra=extra)
        )
    accelerator.wait_for_everyone()


def _any(flags: Sequence[bool], accelerator: Accelerator) -> list[bool]:
    """True on all processes where it is on one."""
    if accelerator.num_processes == 1:
        return list(flags)
    votes = torch.tensor([float(flag) for flag in flags], device=accelerator.device)
    return [vote > 0 for vote in accelerator.reduce(votes, "sum").tolist()]


def finish(arm: Arm, accelerator: Accelerator) -> FitResult:
    """Load the best checkpoint and read the convergence off the curve."""
    accelerator.wait_for_everyone()
    checkpoint.load_trained(arm.model, arm.best_file)
    arm.model.eval()
    rows = read_lines(arm.curve_file)
    return FitResult(arm.progress, convergence_of(rows, arm.config.train.target_loss), tuple(rows))


def convergence_of(rows: Sequence[Mapping[str, Any]], target: float | None) -> Convergence:
    """The convergence figures of a curve.jsonl."""
    losses = [r for r in rows if keys.TRAIN_LOSS in r]
    curve = Curve(
        steps=[r[keys.STEP] for r in losses],
        samples=[r[keys.SAMPLES] for r in losses],
        tokens=[r[keys.TOKENS] for r in losses],
        seconds=[r[keys.SECONDS] for r in losses],
        loss=[r[keys.TRAIN_LOSS] for r in losses],
    )
    judged = [(r[keys.STEP], r[keys.VAL_SELECT]) for r in rows if keys.VAL_SELECT in r]
    return converge(curve, target, judged)
