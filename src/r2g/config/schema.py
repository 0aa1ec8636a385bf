"""The shape of a run's settings: types here, values in conf/."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from r2g.core import slots


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


class FrozenMode(Enum):
    """What a wholly frozen part does while the rest trains: rest (eval), or drop as the paper's code does (train)."""

    eval = "eval"
    train = "train"


class Schedule(Enum):
    """How the learning rate moves after the warm-up."""

    constant = "constant"
    cosine = "cosine"


class Unit(Enum):
    """What a schedule counts."""

    step = "step"
    epoch = "epoch"


class Precision(Enum):
    """The compute dtype of frozen weights and of autocast."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Weighting(Enum):
    """How micro-batches add up: every token counts the same, or every micro-batch does (the paper's way)."""

    token = "token"
    batch = "batch"


class Padding(Enum):
    """Reports are padded to the longest of their batch, or to `max_tokens`."""

    longest = "longest"
    maximum = "maximum"


class Device(Enum):
    """Where a run computes; auto takes the first accelerator there is."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass(frozen=True)
class Paths:
    """Folders. `cache` holds images and texts of patients when real data is used: treat it as patient data."""

    outputs: Path
    cache: Path


@dataclass(frozen=True)
class ParamRule:
    """One line of a tuning mode: which parameters, and do they learn.

    `match` is a glob over parameter names. `role` narrows it to the modules that play a role in that part
    (`blocks`, `norms`, ...), `last` to the last so many of those.
    """

    match: str
    train: bool
    lr_scale: float = 1.0
    role: str | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        _check(self.lr_scale > 0, f"lr_scale must be above 0, got {self.lr_scale}")
        _check(self.last is None or self.last > 0, f"last must be at least 1, got {self.last}")
        _check(self.last is None or self.role is not None, "last needs a role to count")
        _check(
            self.role is None or "." in self.match,
            "a rule with a role must name its part: match: 'encoder.*'",
        )


@dataclass(frozen=True)
class TuningPlan:
    """Which adapters are attached and which parameters learn."""

    adapters: dict[str, Annotated[Any, slots.ADAPTERS]]
    rules: tuple[ParamRule, ...]
    frozen_mode: FrozenMode

    def __post_init__(self) -> None:
        _check(len(self.rules) > 0, "rules must not be empty")


@dataclass(frozen=True)
class SelectTerm:
    """One part of what picks the best checkpoint: a score of score.metrics, or `loss`, with its weight.

    The terms are a list, not a mapping, because an experiment's list replaces the default's where mappings merge.
    """

    score: str
    weight: float


@dataclass(frozen=True)
class TrainSettings:
    """One training run. Exactly one of `epochs` and `steps` is given; a step is one optimizer update.

    `batch_size` counts the studies of one step over all processes; `micro_batch` those of one forward on one
    process. So a curve doesn't depend on the number of processes.
    """

    batch_size: int
    micro_batch: int
    epochs: int | None
    steps: int | None
    learning_rate: float
    weight_decay: float
    schedule: Schedule
    schedule_unit: Unit
    warmup_steps: int
    floor: float
    clip_norm: float | None
    precision: Precision
    weighting: Weighting
    padding: Padding
    max_tokens: int
    group_by_length: bool
    shuffle: bool
    drop_last: bool
    evals: int
    eval_studies: int | None
    select: tuple[SelectTerm, ...]
    target_loss: float | None
    patience: int | None
    checkpoint_minutes: float
    checkpoint_steps: int | None
    workers: int
    processes: int | None
    device: Device

    def __post_init__(self) -> None:
        _check((self.epochs is None) != (self.steps is None), "give exactly one of epochs and steps")
        for name in ("batch_size", "micro_batch", "max_tokens", "evals"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("epochs", "steps", "eval_studies", "patience", "checkpoint_steps", "processes"):
            value = getattr(self, name)
            _check(value is None or value >= 1, f"{name} must be at least 1 or null, got {value}")
        for name in ("learning_rate", "checkpoint_minutes"):
            _check(getattr(self, name) > 0, f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "floor", "warmup_steps", "workers"):
            _check(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        _check(
            self.floor <= self.learning_rate,
            f"floor {self.floor} is above learning_rate {self.learning_rate}",
        )
        _check(
            self.clip_norm is None or self.clip_norm > 0, f"clip_norm must be above 0, got {self.clip_norm}"
        )
        _check(len(self.select) > 0, "select needs at least one score with its weight")


@dataclass(frozen=True)
class DecodeSettings:
    """How the llm writes. Lengths count new tokens. `temperature` and `top_p` matter only when `sample` is true."""

    beams: int
    sample: bool
    temperature: float
    top_p: float
    min_tokens: int
    max_tokens: int
    repetition_penalty: float
    length_penalty: float
    no_repeat_ngram: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("beams", "max_tokens", "batch_size"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("min_tokens", "no_repeat_ngram"):
            _check(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        _check(
            self.min_tokens <= self.max_tokens, f"min_tokens {self.min_tokens} > max_tokens {self.max_tokens}"
        )
        _check(self.temperature > 0, f"temperature must be above 0, got {self.temperature}")
        _check(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        _check(
            self.repetition_penalty > 0, f"repetition_penalty must be above 0, got {self.repetition_penalty}"
        )


@dataclass(frozen=True)
class ScoreSettings:
    """What is measured at the end: metrics by label, and the controls that tell whether the image is used.

    `studies` bounds the test split (null takes all of it).
    """

    metrics: dict[str, Annotated[Any, slots.METRICS]]
    controls: bool
    studies: int | None

    def __post_init__(self) -> None:
        _check(len(self.metrics) > 0, "metrics must not be empty")
        _check(
            self.studies is None or self.studies >= 1,
            f"studies must be at least 1 or null, got {self.studies}",
        )


@dataclass(frozen=True)
class RunConfig:
    """Everything that one run needs, checked."""

    name: str
    seed: int
    encoder: Annotated[Any, slots.ENCODERS]
    projector: Annotated[Any, slots.PROJECTORS]
    llm: Annotated[Any, slots.LLMS]
    data: Annotated[Any, slots.DATASETS]
    tuning: TuningPlan
    train: TrainSettings
    decode: DecodeSettings
    score: ScoreSettings
    track: Annotated[Any, slots.TRACKERS]
    paths: Paths

    def __post_init__(self) -> None:
        _check(self.seed >= 0, f"seed must not be negative, got {self.seed}")
        ok = self.name.replace("_", "").replace("-", "").replace(".", "").isalnum() and self.name[0] != "."
        _check(ok, f"name may hold letters, digits, '_', '-' and '.', got '{self.name}'")
