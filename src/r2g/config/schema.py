"""The shape of a run's settings: types here, values in conf/."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from r2g.core import slots
from r2g.core.checks import Checks, above_zero, at_least
from r2g.core.types import Cleaner, Labeller, Section


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
class CacheSettings:
    """What is kept under `paths.cache` for later epochs and runs, and the GB that it may take in all.

    `features`: a frozen encoder's patches. `films`: decoded and resized films, for encoders that learn.
    """

    features: bool
    films: bool
    max_gb: float

    def __post_init__(self) -> None:
        Checks(self).each(("max_gb",), above_zero, "must be above 0").done()


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
        check = Checks(self)
        check.each(("lr_scale",), above_zero, "must be above 0")
        check.each(("last",), at_least(1), "must be at least 1")
        check.joint(("last", "role"), lambda last, role: last is None or role, "last needs a role to count")
        names_part = "a rule with a role must name its part: match: 'encoder.*'"
        check.joint(("role", "match"), lambda role, match: role is None or "." in match, names_part)
        check.done()


@dataclass(frozen=True)
class TuningPlan:
    """Which adapters are attached and which parameters learn."""

    adapters: dict[str, Annotated[Any, slots.ADAPTERS]]
    rules: tuple[ParamRule, ...]
    frozen_mode: FrozenMode

    def __post_init__(self) -> None:
        Checks(self).joint(("rules",), bool, "rules must not be empty").done()


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
        check = Checks(self)
        one_end = "give exactly one of epochs and steps"
        check.joint(("epochs", "steps"), lambda epochs, steps: (epochs is None) != (steps is None), one_end)
        whole = ("batch_size", "micro_batch", "max_tokens", "evals")
        check.each(whole, at_least(1), "must be at least 1")
        optional = ("epochs", "steps", "eval_studies", "patience", "checkpoint_steps", "processes")
        check.each(optional, at_least(1), "must be at least 1 or null")
        check.each(("learning_rate", "checkpoint_minutes", "clip_norm"), above_zero, "must be above 0")
        none_below = ("weight_decay", "floor", "warmup_steps", "workers")
        check.each(none_below, at_least(0), "must not be negative")
        check.joint(("floor", "learning_rate"), lambda a, b: a <= b, "floor {0} is above learning_rate {1}")
        check.joint(("select",), bool, "select needs at least one score with its weight")
        check.done()


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
        check = Checks(self)
        check.each(("beams", "max_tokens", "batch_size"), at_least(1), "must be at least 1")
        check.each(("min_tokens", "no_repeat_ngram"), at_least(0), "must not be negative")
        check.joint(("min_tokens", "max_tokens"), lambda a, b: a <= b, "min_tokens {0} > max_tokens {1}")
        check.each(("temperature", "repetition_penalty"), above_zero, "must be above 0")
        check.each(("top_p",), lambda p: 0 < p <= 1, "must be in (0, 1]")
        check.done()


class Case(Enum):
    """Letters as they were written, or all in lower case."""

    as_written = "as_written"
    lower = "lower"


class Words(Enum):
    """What counts as a word."""

    whitespace = "whitespace"


class CutUnit(Enum):
    """What the length of a reference is counted in; with llm tokens, the text is decoded again from them."""

    words = "words"
    llm_tokens = "llm_tokens"


@dataclass(frozen=True)
class Cut:
    """Where references end."""

    unit: CutUnit
    length: int

    def __post_init__(self) -> None:
        Checks(self).each(("length",), at_least(1), "must be at least 1").done()


@dataclass(frozen=True)
class RareWords:
    """Words of a reference that train's reports have less than `threshold` times become <unk>."""

    threshold: int

    def __post_init__(self) -> None:
        Checks(self).each(("threshold",), at_least(1), "must be at least 1").done()


class Views(Enum):
    """How many films of a study stand behind one report."""

    as_given = "as_given"
    one_film = "one_film"
    two_films = "two_films"


_FILMS = {Views.one_film: 1, Views.two_films: 2}
_PARTS = {
    Section.findings: "the findings",
    Section.impression: "the impression",
    Section.both: "findings and impression",
}


class LabelSet(Enum):
    """The observations that clinical scores are about."""

    chexpert_14 = "chexpert_14"
    chexpert_5 = "chexpert_5"


class Uncertain(Enum):
    """What an uncertain finding counts as in clinical scores; both: each is computed and named."""

    negative = "negative"
    positive = "positive"
    both = "both"


@dataclass(frozen=True)
class LabelMap:
    """Who reads the findings of a report, and how they are counted."""

    labeller: Labeller
    set: LabelSet
    uncertain: Uncertain


@dataclass(frozen=True)
class Protocol:
    """The rules under which reports are scored: what is done to references (`cleaner`, `cut`, `rare_words`) and to
    both sides (`case`, `remove`).

    `section`, `views` and `labels` say which data and which clinical labels it is about. They can't be brought about
    afterwards, so what is known to be otherwise is refused. Protocols of one `family` are one work's, for different
    data.
    """

    name: str
    family: str
    cleaner: Cleaner | None
    case: Case
    tokenizer: Words
    cut: Cut | None
    rare_words: RareWords | None
    remove: tuple[str, ...]
    section: Section
    views: Views
    labels: LabelMap | None

    def misfits(self, section: Section, films: int | None) -> dict[str, str]:
        """What data of this section, with at most so many films a study, has otherwise than the protocol, by rule.

        What isn't known (`as_given`, None) fits; `unknown` names it.
        """
        found = {}
        if Section.as_given is not self.section and section not in (Section.as_given, self.section):
            found["section"] = f"it is about {_PARTS[self.section]}, the data holds {_PARTS[section]}"
        wanted = _FILMS.get(self.views)
        if wanted is not None and films not in (None, wanted):
            found["views"] = f"it is about {wanted} film(s) a study, the data has up to {films}"
        return found

    def unknown(self, section: Section, films: int | None) -> list[str]:
        """Those of its rules on data that can't be checked, since nobody says what the data is like."""
        told = {"section": section is not Section.as_given, "views": films is not None}
        asked = {"section": self.section is not Section.as_given, "views": self.views in _FILMS}
        return [name for name, is_told in told.items() if asked[name] and not is_told]

    def other_labels(self, labeller: Labeller | None) -> str | None:
        """Why a metric of this labeller isn't the protocol's, or None."""
        if self.labels is None or labeller in (None, self.labels.labeller):
            return None
        return f"its labels are read by {self.labels.labeller.value}, the metric's by {labeller.value}"


@dataclass(frozen=True)
class ScoreSettings:
    """What is measured at the end: metrics by label, under which protocol, and the controls that tell whether the
    image is used.

    `studies` bounds the test split (null takes all of it).
    """

    protocol: Protocol
    metrics: dict[str, Annotated[Any, slots.METRICS]]
    controls: bool
    studies: int | None

    def __post_init__(self) -> None:
        check = Checks(self).joint(("metrics",), bool, "metrics must not be empty")
        check.each(("studies",), at_least(1), "must be at least 1 or null").done()


@dataclass(frozen=True)
class Like:
    """The parts in which the arm that sets the budget differs from this one; the others are the same."""

    encoder: Annotated[Any, slots.ENCODERS] | None = None
    projector: Annotated[Any, slots.PROJECTORS] | None = None
    llm: Annotated[Any, slots.LLMS] | None = None
    tuning: TuningPlan | None = None


@dataclass(frozen=True)
class BudgetMatch:
    """Which `setting` (a key, such as projector.hidden) is solved for, and how many parameters shall learn.

    `trainable` says it as a number; `like` says it by an arm: as many as would learn with the parts that it names.
    """

    setting: str
    trainable: float | None = None
    like: Like | None = None

    def __post_init__(self) -> None:
        check = Checks(self).each(("trainable",), at_least(1), "must be at least 1 or null")
        words = "give exactly one of trainable and like"
        check.joint(("trainable", "like"), lambda a, b: (a is None) != (b is None), words).done()


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
    cache: CacheSettings
    paths: Paths
    budget_match: BudgetMatch | None = None

    def __post_init__(self) -> None:
        check = Checks(self).each(("seed",), at_least(0), "must not be negative")
        letters = "name may hold letters, digits, '_', '-' and '.', and not start with '.', got '{0}'"
        check.joint(("name",), _may_name_a_folder, letters).done()


def _may_name_a_folder(name: str) -> bool:
    return name.translate(dict.fromkeys(map(ord, "_-."))).isalnum() and name[0] != "."
