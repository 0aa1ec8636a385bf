"""One optimizer step of each arm; arms that share an llm go through it together."""

import logging
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from r2g import checkpoint, together
from r2g.checkpoint import Progress
from r2g.config.schema import Precision, RunConfig, TrainSettings, Weighting
from r2g.core import keys
from r2g.data import Studies
from r2g.model import Batch, ReportGenerator
from r2g.plan import Plan, learning_rate, step_seed
from r2g.tuning import ParamGroup, trainable

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(eq=False)
class Arm:
    """One run in training: its model, studies, optimizer, curve and folder.

    `judged` are its validations by step; `error` says why it left its gang.
    """

    config: RunConfig
    model: ReportGenerator
    groups: tuple[ParamGroup, ...]
    studies: Studies
    folder: Path
    tracker: Any
    progress: Progress = field(default_factory=Progress)
    plan: Plan = field(init=False)
    stream: Iterator[tuple[list[Batch], int, int]] = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    pending: list[dict[str, Any]] = field(default_factory=list)
    judged: dict[int, dict[str, float]] = field(default_factory=dict)
    ended: bool = False
    error: Exception | None = None

    @property
    def best_file(self) -> Path:
        return self.folder / checkpoint.TRAINED

    @property
    def curve_file(self) -> Path:
        return self.folder / "curve.jsonl"

    @property
    def trains(self) -> bool:
        """Whether it still has steps to make."""
        return not self.ended and self.error is None

    def seed(self, accelerator: Accelerator, draw: int) -> None:
        """Let what is drawn next follow from the run's seed and step alone."""
        torch.manual_seed(step_seed(self.config.seed, self.progress.step, accelerator.process_index, draw))


@dataclass
class _Turn:
    """An arm's part of a step: its micro-batches, and the loss so far."""

    arm: Arm
    micros: list[Batch]
    samples: int
    tokens: int
    loss: Tensor


@dataclass
class _Read:
    """What an arm gives the llm to read: `leaf` is `inputs`, cut off so that each arm's backward pass is its own."""

    turn: _Turn
    batch: Batch
    inputs: Tensor
    leaf: Tensor
    mask: Tensor | None
    start: int


def attempt(arm: Arm, accelerator: Accelerator, action: Callable[[], T], local: bool = False) -> T | None:
    """Do an arm's own work; if it fails, the arm keeps the error and the others go on.

    On several processes only what is `local` (no process waits for another one in it) and a loss that isn't finite
    (all processes see it) can fail for an arm alone.
    """
    try:
        return action()
    except Exception as error:
        alone = local or accelerator.num_processes == 1 or isinstance(error, FloatingPointError)
        if not alone:
            raise
        arm.error = error
        traceback.clear_frames(error.__traceback__)  # or its tensors would stay as long as the others train
        _LOG.warning("%s: %s: %s", arm.folder.name, type(error).__name__, error)
        return None


def optimizer_of(
    model: ReportGenerator, groups: Sequence[ParamGroup], settings: TrainSettings
) -> torch.optim.AdamW:
    """AdamW (betas 0.9, 0.999) over the groups; each step sets the rates."""
    parameters = dict(model.named_parameters())
    rows = [{"params": [parameters[n] for n in g.names], "lr_scale": g.lr_scale} for g in groups]
    return torch.optim.AdamW(rows, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def scaler_of(settings: TrainSettings, device: torch.device) -> torch.amp.GradScaler:
    """fp16's loss scale, each arm's own; nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=settings.precision is Precision.fp16)


def advance(arms: Sequence[Arm], accelerator: Accelerator) -> None:
    """One optimizer step of each arm; the losses stay on the device, in `pending`, until they are read.

    What is drawn at random follows from an arm's seed and step, so that an arm in a gang draws what it would alone.
    """
    begun = [attempt(arm, accelerator, partial(_begin, arm, accelerator), local=True) for arm in arms]
    turns = [turn for turn in begun if turn is not None]
    for i in range(max((len(turn.micros) for turn in turns), default=0)):
        _round([t for t in turns if i < len(t.micros) and t.arm.trains], i, accelerator)
    _agree(arms, accelerator)
    for turn in turns:
        if turn.arm.trains:
            attempt(turn.arm, accelerator, partial(_update, turn, accelerator))


def _begin(arm: Arm, accelerator: Accelerator) -> _Turn:
    micros, samples, tokens = next(arm.stream)
    return _Turn(arm, micros, samples, tokens, torch.zeros((), device=accelerator.device))


def _round(turns: Sequence[_Turn], i: int, accelerator: Accelerator) -> None:
    """Forward and backward for the arms' micro-batches of number i."""
    found = [attempt(t.arm, accelerator, partial(_read, t, i, accelerator), local=True) for t in turns]
    reads = [read for read in found if read is not None]
    if not reads:
        return
    reads[0].turn.arm.seed(accelerator, 2 * i + 1)  # an llm that draws is never shared
    for some in together.alike([(read.leaf, read.mask) for read in reads]):
        _through_llm([reads[k] for k in some], accelerator)
    for read in reads:
        if read.leaf.grad is not None and read.turn.arm.trains:
            attempt(read.turn.arm, accelerator, partial(read.inputs.backward, read.leaf.grad), local=True)


def _through_llm(reads: Sequence[_Read], accelerator: Accelerator) -> None:
    """What these arms read goes through the llm in one batch, and back; nothing of it stays in memory."""
    with accelerator.autocast():
        rows = together.hidden(reads[0].turn.arm.model.llm, [(read.leaf, read.mask) for read in reads])
        losses = [
            attempt(r.turn.arm, accelerator, partial(_loss, r, hidden, accelerator), local=True)
            for r, hidden in zip(reads, rows, strict=True)
        ]
    sound = [loss for loss in losses if loss is not None]
    if sound:
        torch.stack(sound).sum().backward()


def _read(turn: _Turn, i: int, accelerator: Accelerator) -> _Read:
    """An arm's own part of the forward pass: its encoder and projector."""
    turn.arm.seed(accelerator, 2 * i)
    batch = turn.micros[i].to(accelerator.device)
    with accelerator.autocast():
        inputs, mask, start = turn.arm.model.inputs(batch)
    leaf = inputs.detach().requires_grad_(inputs.requires_grad)
    return _Read(turn, batch, inputs, leaf, mask, start)


def _loss(read: _Read, hidden: Tensor, accelerator: Accelerator) -> Tensor:
    turn, arm = read.turn, read.turn.arm
    loss = arm.model.loss(hidden, read.batch, read.start)
    turn.loss += loss.detach()
    weight = _weight(arm.config.train, read.batch, len(turn.micros), turn.tokens, accelerator.num_processes)
    return arm.scaler.scale(loss * weight)


def _weight(settings: TrainSettings, micro: Batch, rounds: int, tokens: int, world: int) -> float:
    """What a micro-batch's summed loss is multiplied with; gradients are then the mean over the processes.

    token: every token of the global batch counts the same. batch: the mean of each micro-batch counts the same.
    """
    if settings.weighting is Weighting.token:
        return world / tokens
    return 1 / (rounds * max(1, len(micro.targets)))


def _agree(arms: Sequence[Arm], accelerator: Accelerator) -> None:
    """An arm that failed on one process leaves its gang on all."""
    if accelerator.num_processes == 1:
        return
    failed = torch.tensor([float(arm.error is not None) for arm in arms], device=accelerator.device)
    for arm, votes in zip(arms, accelerator.reduce(failed, "sum").tolist(), strict=True):
        if votes and arm.error is None:
            arm.error = RuntimeError("this arm failed on another process")


def _update(turn: _Turn, accelerator: Accelerator) -> None:
    arm = turn.arm
    settings, progress, plan = arm.config.train, arm.progress, arm.plan
    rate = learning_rate(settings, progress.step, plan.total, plan.per_epoch)
    for group in arm.optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
    learns = list(trainable(arm.model).values())
    _mean_gradients(learns, accelerator)
    arm.scaler.unscale_(arm.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(learns, settings.clip_norm or math.inf)
    arm.scaler.step(arm.optimizer)
    arm.scaler.update()
    arm.optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    progress.samples += turn.samples
    progress.tokens += turn.tokens
    row = {
        keys.STEP: progress.step,
        keys.SAMPLES: progress.samples,
        keys.TOKENS: progress.tokens,
        keys.EPOCH: progress.step / plan.per_epoch,
        keys.TRAIN_LOSS: (turn.loss, turn.tokens),
        keys.TRAIN_GRAD_NORM: norm,
        keys.TRAIN_LEARNING_RATE: rate,
    }
    arm.pending.append(row)


def _mean_gradients(learns: Sequence[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """Over the processes, in one message a dtype; a parameter that no process used keeps no gradient."""
    if accelerator.num_processes == 1:
        return
    used = torch.tensor([float(p.grad is not None) for p in learns], device=accelerator.device)
    some = [p for p, n in zip(learns, accelerator.reduce(used, "sum").tolist(), strict=True) if n]
    for p in some:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    for dtype in dict.fromkeys(p.dtype for p in some):
        grads = [p.grad for p in some if p.dtype == dtype and p.grad is not None]
        flat: Any = accelerator.reduce(torch.cat([g.flatten() for g in grads]), "mean")
        for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))
