"""The training loop: one for one arm or many, the same on one process or several, exact after a restart."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from r2g import checkpoint
from r2g.checkpoint import Progress
from r2g.config.schema import RunConfig, Schedule, TrainSettings, Unit, Weighting
from r2g.core import keys
from r2g.core.convergence import Convergence, Curve, converge
from r2g.data import Share, Studies, batches, collate_for, epoch_order, share_of
from r2g.model import Batch, ReportGenerator
from r2g.record import append_line, read_lines, write_lines
from r2g.tuning import ParamGroup, set_modes, trainable

_FLUSH = 10  # steps between reads of the loss: each read waits for the device


class Interrupted(RuntimeError):
    """The run was asked to stop (SIGTERM); a checkpoint has been written."""


@dataclass
class Arm:
    """One run in training: its model, optimizer, curve and folder."""

    config: RunConfig
    model: ReportGenerator
    groups: tuple[ParamGroup, ...]
    folder: Path
    tracker: Any
    validate: Callable[[], dict[str, float]]
    progress: Progress = field(default_factory=Progress)
    wrapped: Any = None
    optimizer: Any = None

    @property
    def best_file(self) -> Path:
        return self.folder / checkpoint.TRAINED

    @property
    def curve_file(self) -> Path:
        return self.folder / "curve.jsonl"


@dataclass(frozen=True)
class FitResult:
    """How training went."""

    progress: Progress
    convergence: Convergence
    curve: tuple[dict[str, Any], ...]


def learning_rate(settings: TrainSettings, step: int, total: int, per_epoch: int) -> float:
    """The rate of update `step` (0 is the first): linear warm-up, then constant or cosine down to `floor`.

    Counted in epochs, the cosine moves once an epoch with T_max = the number of epochs, as R2GenGPT's does.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule is Schedule.constant:
        return settings.learning_rate
    if settings.schedule_unit is Unit.epoch:
        part = (step // per_epoch) / math.ceil(total / per_epoch)
    else:
        part = (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    return settings.floor + (settings.learning_rate - settings.floor) * (1 + math.cos(math.pi * part)) / 2


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of one step's dropout on one process: a restart needs no saved random state."""
    mixed = torch.tensor([seed, step, rank], dtype=torch.int64) * torch.tensor([1_000_003, 7_919, 104_729])
    return int(mixed.sum().item()) & 0x7FFF_FFFF_FFFF_FFFF


def optimizer_of(
    model: ReportGenerator, groups: Sequence[ParamGroup], settings: TrainSettings
) -> torch.optim.AdamW:
    """AdamW (betas 0.9, 0.999) over the groups; the loop sets the rates."""
    parameters = dict(model.named_parameters())
    rows = [{"params": [parameters[n] for n in g.names], "lr_scale": g.lr_scale} for g in groups]
    return torch.optim.AdamW(rows, lr=settings.learning_rate, weight_decay=settings.weight_decay)


@dataclass(frozen=True)
class Plan:
    """The steps of a run: which studies come when; a function of the config and the data alone."""

    settings: TrainSettings
    studies: Studies
    seed: int
    per_epoch: int
    total: int

    def first_epoch(self) -> list[int]:
        """The studies that come in the first epoch, or in the whole run if that ends before."""
        order = epoch_order(self.studies.lengths, self.settings, self.seed, 0)
        return sorted(i for batch in order[: self.total] for i in batch)

    def stream(self, step: int, share: Share, collate: Any) -> Iterator[tuple[list[Batch], int, int]]:
        """From `step` on: this process's micro-batches, and the studies and tokens of all processes."""
        counts = [sum(t != collate.ignored for t in row) for row in self.studies.tokens or []]
        while step < self.total:
            epoch, position = divmod(step, self.per_epoch)
            order = epoch_order(self.studies.lengths, self.settings, self.seed, epoch)
            order = order[position : position + self.total - step]
            shares = [share_of(batch, share, self.settings.micro_batch) for batch in order]
            flat = [micro for part in shares for micro in part]
            loader = batches(self.studies, flat, collate, self.settings.workers)
            for batch, part in zip(order, shares, strict=True):
                yield [next(loader) for _ in part], len(batch), sum(counts[i] for i in batch)
            step += len(order)


def plan_of(studies: Studies, config: RunConfig) -> Plan:
    """The run's steps."""
    per_epoch = len(epoch_order(studies.lengths, config.train, config.seed, 0))
    total = config.train.steps or per_epoch * (config.train.epochs or 1)
    return Plan(config.train, studies, config.seed, per_epoch, total)


def fit(arms: Sequence[Arm], studies: Studies, accelerator: Accelerator) -> list[FitResult]:
    """Train the arms, in the order given, each to its own best checkpoint.

    Raises Interrupted after a SIGTERM, with a checkpoint written; FloatingPointError when a loss isn't finite.
    """
    return [_fit(arm, plan_of(studies, arm.config), accelerator) for arm in arms]


def _fit(arm: Arm, plan: Plan, accelerator: Accelerator) -> FitResult:
    start(arm, accelerator)
    settings = arm.config.train
    share = Share(accelerator.process_index, accelerator.num_processes)
    collate = collate_for(plan.studies, arm.model.llm, settings)
    evals = eval_steps(plan.total, settings.evals)
    stream = plan.stream(arm.progress.step, share, collate)
    clock, pending = time.perf_counter(), []
    bar = tqdm(
        total=plan.total,
        initial=arm.progress.step,
        desc="train",
        disable=None if accelerator.is_main_process else True,
    )
    with _Terminable() as asked, bar:
        saved = time.monotonic()
        for micros, samples, tokens in stream:
            pending.append(update(arm, plan, micros, samples, tokens, accelerator))
            arm.progress.seconds += time.perf_counter() - clock
            pending[-1][keys.SECONDS] = arm.progress.seconds
            now = arm.progress.step
            stop = asked.now(accelerator)
            if len(pending) >= _FLUSH or now in evals or stop:
                flush(arm, pending, accelerator, bar)
            enough = now in evals and judge(arm, accelerator)
            if now < plan.total and not enough and (stop or _due(settings, now, saved, accelerator)):
                save(arm, pending, accelerator, bar)
                saved = time.monotonic()
            if stop and now < plan.total and not enough:
                raise Interrupted(f"asked to stop at step {now} of {plan.total}")
            bar.update()
            clock = time.perf_counter()
            if enough:
                break
    flush(arm, pending, accelerator, bar)
    return finish(arm, accelerator)


def start(arm: Arm, accelerator: Accelerator) -> None:
    """Make the optimizer, take up a checkpoint if there is one, cut the curve back to it."""
    arm.optimizer = optimizer_of(arm.model, arm.groups, arm.config.train)
    found = checkpoint.restore(arm.folder / "checkpoints", arm.model, arm.optimizer)
    if found is not None:
        arm.progress = found
        arm.progress.attempts += 1
    if accelerator.is_main_process:
        rows = [r for r in read_lines(arm.curve_file) if r[keys.STEP] <= arm.progress.step]
        write_lines(arm.curve_file, rows)
        if rows and arm.tracker is not None:
            arm.tracker.replay(rows)
    accelerator.wait_for_everyone()
    arm.wrapped, arm.optimizer = accelerator.prepare(arm.model, arm.optimizer)
    set_modes(arm.model, arm.config.tuning.frozen_mode)


def update(
    arm: Arm, plan: Plan, micros: Sequence[Batch], samples: int, tokens: int, accelerator: Accelerator
) -> dict[str, Any]:
    """One optimizer step; the losses stay on the device until `flush` reads them."""
    settings, progress = arm.config.train, arm.progress
    torch.manual_seed(step_seed(arm.config.seed, progress.step, accelerator.process_index))
    rate = learning_rate(settings, progress.step, plan.total, plan.per_epoch)
    for group in arm.optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
    summed = torch.zeros((), device=accelerator.device)
    for i, micro in enumerate(micros):
        last = i == len(micros) - 1
        weight = _weight(settings, micro, len(micros), tokens, accelerator.num_processes)
        with nullcontext() if last else accelerator.no_sync(arm.wrapped):
            with accelerator.autocast():
                loss = arm.wrapped(micro.to(accelerator.device))
            summed += loss.detach()
            accelerator.backward(loss * weight)
    norm = accelerator.clip_grad_norm_(list(trainable(arm.model).values()), settings.clip_norm or math.inf)
    arm.optimizer.step()
    arm.optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    progress.samples += samples
    progress.tokens += tokens
    return {
        keys.STEP: progress.step,
        keys.SAMPLES: progress.samples,
        keys.TOKENS: progress.tokens,
        keys.EPOCH: progress.step / plan.per_epoch,
        keys.TRAIN_LOSS: (summed, tokens),
        keys.TRAIN_GRAD_NORM: norm,
        keys.TRAIN_LEARNING_RATE: rate,
    }


def _weight(settings: TrainSettings, micro: Batch, rounds: int, tokens: int, world: int) -> float:
    """What a micro-batch's summed loss is multiplied with; DDP then takes the mean over the processes.

    token: every token of the global batch counts the same. batch: the mean of each micro-batch counts the same.
    """
    if settings.weighting is Weighting.token:
        return world / tokens
    return 1 / (rounds * max(1, len(micro.targets)))


def flush(arm: Arm, pending: list[dict[str, Any]], accelerator: Accelerator, bar: Any) -> None:
    """Read the pending losses, write them to the curve and tell the tracker."""
    if not pending:
        return
    sums = accelerator.reduce(torch.stack([row[keys.TRAIN_LOSS][0] for row in pending]), "sum").tolist()
    for row, total in zip(pending, sums, strict=True):
        row[keys.TRAIN_LOSS] = total / max(1, row[keys.TRAIN_LOSS][1])
        row[keys.TRAIN_GRAD_NORM] = float(row[keys.TRAIN_GRAD_NORM])
        if not math.isfinite(row[keys.TRAIN_LOSS]):
            raise FloatingPointError(f"the loss is {row[keys.TRAIN_LOSS]} at step {row[keys.STEP]}")
        if accelerator.is_main_process:
            append_line(arm.curve_file, row)
            if arm.tracker is not None:
                arm.tracker.log(row, step=row[keys.STEP])
    bar.set_postfix(loss=f"{pending[-1][keys.TRAIN_LOSS]:.3f}")
    pending.clear()


def judge(arm: Arm, accelerator: Accelerator) -> bool:
    """Validate, keep the checkpoint if it's the best so far; True when patience has run out."""
    arm.model.eval()
    scores = arm.validate()
    set_modes(arm.model, arm.config.tuning.frozen_mode)
    value = sum(term.weight * scores[term.score] for term in arm.config.train.select)
    progress = arm.progress
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
        append_line(arm.curve_file, {**axes, **row})
        if arm.tracker is not None:
            arm.tracker.log({**axes, **row}, step=progress.step)
    patience = arm.config.train.patience
    return patience is not None and progress.stale >= patience


def save(arm: Arm, pending: list[dict[str, Any]], accelerator: Accelerator, bar: Any) -> None:
    """Write a checkpoint; the curve is flushed first, so that it is never behind."""
    flush(arm, pending, accelerator, bar)
    if accelerator.is_main_process:
        optimizer = getattr(arm.optimizer, "optimizer", arm.optimizer)
        checkpoint.save(arm.folder / "checkpoints", arm.model, optimizer, arm.progress)
    accelerator.wait_for_everyone()


def _due(settings: TrainSettings, step: int, saved: float, accelerator: Accelerator) -> bool:
    by_step = settings.checkpoint_steps is not None and step % settings.checkpoint_steps == 0
    by_time = time.monotonic() - saved > settings.checkpoint_minutes * 60
    return by_step or _any(by_time, accelerator)


def _any(flag: bool, accelerator: Accelerator) -> bool:
    """True on all processes if it is on one."""
    if accelerator.num_processes == 1:
        return flag
    votes = accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum")
    return bool(votes.item() > 0)


class _Terminable:
    """While inside, SIGTERM only sets a flag: the loop finishes its step, saves and stops."""

    def __init__(self) -> None:
        self.flag = False

    def __enter__(self) -> "_Terminable":
        self._old = signal.signal(signal.SIGTERM, self._set)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._old)

    def _set(self, *_: object) -> None:
        self.flag = True

    def now(self, accelerator: Accelerator) -> bool:
        return _any(self.flag, accelerator)


def eval_steps(total: int, evals: int) -> frozenset[int]:
    """The steps after which the run is validated: evenly spaced, the last one is the end."""
    return frozenset(max(1, round(total * (i + 1) / evals)) for i in range(evals))


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
