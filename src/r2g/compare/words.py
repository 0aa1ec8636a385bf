"""The comparison in sentences: what was found, and what was left out."""

from r2g.compare.analyse import Comparison, Row
from r2g.compare.blind import NO, UNCLEAR, YES
from r2g.compare.cells import signed
from r2g.compare.draws import Difference
from r2g.compare.stats import pareto

NOT_CLINICAL = "Scores of generated reports say nothing about their use in a clinic."


def headline(found: Comparison) -> list[str]:
    """A sentence an arm on the primary metric, the Pareto front, and who uses the image."""
    name = found.spec.primary
    base = found.base.scores[name]
    lines = [f"{found.baseline}, the baseline, has {name} {base.value:.4f}{_bounds(base.low, base.high)}."]
    lines += [_against(found, row, name) for row in found.rows if name in row.differences]
    lines.append(f"On the Pareto front (trainable parameters against {name}): {', '.join(front(found))}.")
    verdicts = {row.verdict for row in found.scored}
    told = [
        f"{v} ({', '.join(row.name for row in found.scored if row.verdict == v)})"
        for v in (YES, NO, UNCLEAR)
        if v in verdicts
    ]
    lines.append(f"Uses the image: {'; '.join(told)}.")
    return lines


def left_out(found: Comparison) -> list[str]:
    """What a reader must know is missing."""
    return [f"Left out: {refusal}." for refusal in found.left_out] + [f"{note}." for note in found.notes]


def front(found: Comparison) -> list[str]:
    """The names of the arms that no other beats in both trainable parameters and the primary score."""
    rows = found.scored
    values = [row.scores[found.spec.primary].value for row in rows]
    return [rows[i].name for i in pareto([row.trainable for row in rows], values)]


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None else f" [{low:.4f}, {high:.4f}]"


def _against(found: Comparison, row: Row, name: str) -> str:
    gap = row.differences[name]
    facts = f"{signed(gap.value)} [{signed(gap.low)}, {signed(gap.high)}], adjusted p {_p(gap.holm)}"
    times = row.trainable / found.base.trainable if found.base.trainable else float("inf")
    size = (
        "as many trainable parameters"
        if f"{times:.2f}" == "1.00"
        else f"{times:.3g} times the trainable parameters"
    )
    if gap.verdict in ("higher", "lower"):
        seeds = f"all {len(gap.seeds)} seeds agree" if len(gap.seeds) > 1 else "one seed only"
        return f"{row.name} ({size}) is {gap.verdict}: {facts}; {seeds}{_apart(gap)}."
    signs = {value > 0 for value in gap.seeds.values()}
    seeds = "; the seeds disagree" if len(signs) > 1 else ""
    shown = f"differences of {gap.detectable:.4f} and more would probably have shown"
    return f"{row.name} ({size}): no difference shown, {facts}{seeds}{_apart(gap)}; {shown}."


def _apart(gap: Difference) -> str:
    """A warning where the seeds differ by more than the interval, which is over reports alone, lets one think."""
    spread = max(gap.seeds.values()) - min(gap.seeds.values())
    return (
        f"; the seeds lie {spread:.4f} apart, further than the interval is wide"
        if spread > gap.high - gap.low
        else ""
    )


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
