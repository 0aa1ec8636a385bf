"""The stable names under which a run's numbers are logged, recorded and compared.

Each constant's line says what the number is. A name once published is never given another meaning.
"""

STEP = "step"
"""Optimizer updates so far; the first is 1."""
SAMPLES = "samples"
"""Studies seen so far, over all processes."""
TOKENS = "tokens"
"""Report tokens that counted in the loss so far, over all processes."""
SECONDS = "seconds"
"""Seconds of training so far, without evaluation and checkpoints; goes on after a resume."""
EPOCH = "epoch"
"""Epochs so far, as a fraction."""
AXES = (STEP, SAMPLES, TOKENS, SECONDS, EPOCH)
"""What a curve can be drawn against."""

TRAIN = "train"
VAL = "val"
TEST = "test"
CONTROL = "control"
BUDGET = "budget"
CHOICES = "choices"
"""In a tracker's settings: what was chosen in each group."""
PROTOCOL = "protocol"
"""In a tracker's settings: name and hash of the rules of the scores."""
CONVERGENCE = "convergence"

TRAIN_LOSS = "train/loss"
"""Mean loss of one step's report tokens, in nats."""
TRAIN_LEARNING_RATE = "train/learning_rate"
"""The rate of the step, before any group's scale."""
TRAIN_GRAD_NORM = "train/grad_norm"
"""Norm of the trained parameters' gradients before the clip."""
TRAIN_SAMPLES_PER_SECOND = "train/samples_per_second"
"""Studies a second since the last entry."""
VAL_LOSS = "val/loss"
"""Mean loss of the validation split's report tokens, in nats."""
VAL_SELECT = "val/select"
"""The weighted sum of scores that picks the best checkpoint."""

BUDGET_TRAINABLE = "budget/trainable"
"""Parameters that learn."""
BUDGET_TOTAL = "budget/total"
"""All parameters, adapters included."""
BUDGET_TRAINABLE_PERCENT = "budget/trainable_percent"
"""100 * trainable / total."""
BUDGET_FLOPS_FORWARD = "budget/flops/forward"
"""Floating-point operations of one training sample's forward pass, the encoder's included whatever a cache spares."""
BUDGET_FLOPS_BACKWARD = "budget/flops/backward"
"""Those of its backward pass."""

STEPS_TO_TARGET = "convergence/steps_to_target"
"""Steps until the smoothed loss is at or below the target and stays for `hold` entries; None if never."""
SAMPLES_TO_TARGET = "convergence/samples_to_target"
"""Studies seen at that entry."""
TOKENS_TO_TARGET = "convergence/tokens_to_target"
"""Report tokens seen at that entry."""
SECONDS_TO_TARGET = "convergence/seconds_to_target"
"""Training seconds at that entry."""
CENSORED = "convergence/censored"
"""True if a target was set and not reached; None without a target."""
TARGET = "convergence/target"
"""The loss to reach, or None."""
AREA = "convergence/area"
"""Area under the loss curve over steps, divided by the steps it spans: a mean loss, in nats."""
PLATEAU_STEP = "convergence/plateau_step"
"""The step from which on the smoothed loss falls slower than the threshold; None if it still falls."""
BEST_STEP = "convergence/best_step"
"""The step of the best validation entry; None without any."""


def choice(group: str) -> str:
    """A setting of a tracker, as a path: `choices.tuning`."""
    return f"{CHOICES}.{group}"


def by(axis: str, name: str) -> str:
    """The copy of a curve that a tracker draws against another axis: `by_samples/train/loss`."""
    return f"by_{axis}/{name}"


def val(score: str) -> str:
    """A score on the validation split: `val/bleu_4`."""
    return f"{VAL}/{score}"


def test(score: str) -> str:
    """A score on the test split: `test/bleu_4`."""
    return f"{TEST}/{score}"


def control(name: str, score: str) -> str:
    """A score of a control: `control/shuffled/bleu_4`."""
    return f"{CONTROL}/{name}/{score}"


def budget(part: str, what: str) -> str:
    """A figure of one part: `budget/encoder/trainable`, `/total`, `/trainable_percent`; so too others."""
    return f"{BUDGET}/{part}/{what}"
