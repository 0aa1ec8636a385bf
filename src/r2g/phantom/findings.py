"""The vocabulary of findings, and how a case is drawn from it."""

from dataclasses import dataclass

import numpy as np

SIDES = ("left", "right")
ZONES = ("upper", "mid", "lower")
NORMAL_SHARE = 0.12
COUNT_SHARES = (0.28, 0.36, 0.23, 0.13)
"""How often an abnormal case has 1, 2, 3 or 4 findings."""
TRAP_SHARE = 0.007
"""How often a film is hung the wrong way round, and how often the heart is on the right: each."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding: which details it has, and how often it is met.

    `side` is "label" where left and right are labels of their own, "detail" where the side is only worded.
    """

    name: str
    weight: float
    side: str = ""
    zoned: bool = False
    sizes: tuple[str, ...] = ()


KINDS = (
    Kind("cardiomegaly", 1.5, sizes=("mild", "marked")),
    Kind("effusion", 1.15, "label", sizes=("small", "moderate", "large")),
    Kind("pneumothorax", 1.0, "label", sizes=("small", "large")),
    Kind("consolidation", 1.1, "label", zoned=True),
    Kind("edema", 1.25, sizes=("mild", "severe")),
    Kind("nodule", 1.0, "label", zoned=True),
    Kind("fracture", 0.9, "label"),
    Kind("atelectasis", 1.0, "label"),
    Kind("emphysema", 1.1),
    Kind("wide_mediastinum", 0.9),
    Kind("scoliosis", 0.9),
    Kind("pacemaker", 1.0, "detail"),
    Kind("endotracheal_tube", 0.9),
    Kind("central_line", 1.0, "detail"),
    Kind("sternotomy", 1.0),
)
KIND = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class Finding:
    """A finding with its details; a detail that its kind hasn't is the empty string."""

    name: str
    side: str = ""
    zone: str = ""
    size: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}_{self.side}" if KIND[self.name].side == "label" else self.name

    @property
    def code(self) -> str:
        """The label with the finding's detail, such as `effusion_left_large`."""
        detail = self.size or self.zone or (self.side if KIND[self.name].side == "detail" else "")
        return f"{self.label}_{detail}" if detail else self.label


@dataclass(frozen=True)
class Case:
    """What one study shows. Sides are the patient's, however the film is hung."""

    findings: tuple[Finding, ...]
    dextrocardia: bool = False
    mirrored: bool = False

    def find(self, name: str) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.name == name)

    def has(self, *names: str) -> bool:
        return any(finding.name in names for finding in self.findings)


def _variants(kind: Kind) -> list[Finding]:
    sides = SIDES if kind.side else ("",)
    return [
        Finding(kind.name, side, zone, size)
        for side in sides
        for zone in (ZONES if kind.zoned else ("",))
        for size in (kind.sizes or ("",))
    ]


LABELS = tuple(dict.fromkeys(finding.label for kind in KINDS for finding in _variants(kind)))
DETAILS = tuple(
    code for kind in KINDS for code in (finding.code for finding in _variants(kind)) if code not in LABELS
)
CODES = LABELS + DETAILS
"""All labels, then labels with a detail: what the tiny encoder learns and the tiny llm's key words name."""

_WEIGHTS = np.array(
    [next(kind.weight for kind in KINDS if label in {f.label for f in _variants(kind)}) for label in LABELS]
)
_OPPOSITE = {label: label.replace("left", "right") for label in LABELS if label.endswith("_left")}
_OPPOSITE |= {right: left for left, right in _OPPOSITE.items()}
_OFTEN_BILATERAL = ("effusion", "atelectasis", "consolidation")
_HIDES = {
    frozenset(pair)
    for pair in (
        ("edema", "emphysema"), ("edema", "consolidation"), ("emphysema", "pneumothorax"),
        ("pneumothorax", "nodule"), ("pneumothorax", "consolidation"), ("atelectasis", "consolidation"),
    )
}  # fmt: skip
"""Kinds that can't be told apart, or hide each other, on the same side of one film."""


def _clash(one: Finding, other: Finding) -> bool:
    if one.side and other.side and one.side != other.side:
        return False
    names = {one.name, other.name}
    if frozenset(names) in _HIDES:
        return True
    if names == {"consolidation", "nodule"}:
        return one.zone == other.zone
    return any(
        a.name == "effusion" and a.size != "small" and (b.name == "atelectasis" or b.zone == "lower")
        for a, b in ((one, other), (other, one))
    )


def _draw_finding(rng: np.random.Generator, chosen: list[Finding]) -> Finding:
    weights = _WEIGHTS.copy()
    for finding in chosen:
        weights[LABELS.index(finding.label)] = 0.0
        if finding.name in _OFTEN_BILATERAL:
            weights[LABELS.index(_OPPOSITE[finding.label])] *= 3.0
    label = LABELS[rng.choice(len(LABELS), p=weights / weights.sum())]
    variants = [f for kind in KINDS for f in _variants(kind) if f.label == label]
    odds = np.array([_odds(finding) for finding in variants])
    return variants[rng.choice(len(variants), p=odds / odds.sum())]


def _odds(finding: Finding) -> float:
    """Pacemakers are mostly on the left, central lines on the right."""
    usual = {"pacemaker": "left", "central_line": "right"}.get(finding.name)
    return 4.0 if usual and finding.side == usual else 1.0


def draw_case(rng: np.random.Generator) -> Case:
    """Draw what one study shows: nothing, or one to four findings that can be seen beside each other."""
    count = 0 if rng.random() < NORMAL_SHARE else 1 + rng.choice(len(COUNT_SHARES), p=COUNT_SHARES)
    chosen: list[Finding] = []
    while len(chosen) < count:
        finding = _draw_finding(rng, chosen)
        if not any(_clash(finding, other) for other in chosen):
            chosen.append(finding)
    trap = rng.random()
    order = sorted(chosen, key=lambda finding: LABELS.index(finding.label))
    return Case(tuple(order), dextrocardia=trap < TRAP_SHARE, mirrored=TRAP_SHARE <= trap < 2 * TRAP_SHARE)


def labels(case: Case) -> tuple[str, ...]:
    """The case's positive labels, in the order of LABELS."""
    present = {finding.label for finding in case.findings}
    return tuple(label for label in LABELS if label in present)


def codes(case: Case) -> tuple[str, ...]:
    """The case's labels and detailed labels, in the order of CODES."""
    present = {name for finding in case.findings for name in (finding.label, finding.code)}
    return tuple(code for code in CODES if code in present)
