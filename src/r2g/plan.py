"""The steps of a run: which studies come when, at which rate, under which seed; functions of config and data."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from r2g.config.schema import RunConfig, Schedule, TrainSettings, Unit
from r2g.data import Share, Studies, batches, epoch_order, share_of
from r2g.model import Batch


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


def step_seed(seed: int, step: int, rank: int, draw: int = 0) -> int:
    """The seed of one step's dropout on one process: a restart needs no saved random state.

    `draw` counts the parts of a step that draw: a micro-batch's own part, the llm, the next micro-batch's part, ...
    """
    factors = torch.tensor([1_000_003, 7_919, 104_729, 15_485_863])
    mixed = torch.tensor([seed, step, rank, draw], dtype=torch.int64) * factors
    return int(mixed.sum().item()) & 0x7FFF_FFFF_FFFF_FFFF


def eval_steps(total: int, evals: int) -> frozenset[int]:
    """The steps after which the run is validated: evenly spaced, the last one is the end."""
    return frozenset(max(1, round(total * (i + 1) / evals)) for i in range(evals))


@dataclass(frozen=True)
class Plan:
    """Which studies come when; `evals` are the steps after which the run is validated."""

    settings: TrainSettings
    studies: Studies
    seed: int
    per_epoch: int
    total: int
    evals: frozenset[int]

    def seen(self) -> list[int]:
        """The studies that the run looks at. Each epoch of several may drop others, so then all of them."""
        if self.total > self.per_epoch:
            return list(range(len(self.studies)))
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
    return Plan(config.train, studies, config.seed, per_epoch, total, eval_steps(total, config.train.evals))
