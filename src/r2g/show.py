"""What a run prints: its budget, the curve, the scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r2g import assess, train
from r2g.config.schema import RunConfig
from r2g.core import keys
from r2g.core.tables import table


def title(config: RunConfig, frame: Mapping[str, Any]) -> None:
    """Which arm of a gang the next lines speak of; a run alone needs no title."""
    if frame["ran"].get("how") != "solo":
        _print(f"\n== {config.name}/{frame['id']} (seed {config.seed})")


def budget(counted: Mapping[str, Any]) -> None:
    """Trainable and total parameters, per part and in all; what a budget match came to."""
    rows: list[list[object]] = [[n, p["trainable"], p["total"]] for n, p in counted["parts"].items()]
    rows.append(["in all", counted["trainable"], counted["total"]])
    _print(table(["part", "trainable", "total"], rows) + f"\n{counted['trainable_percent']:.4f} % learn")
    if "match" in counted:
        _print(match(counted["match"]))
    _print("")


def match(solved: Mapping[str, Any]) -> str:
    """What a budget match came to, as a line."""
    percent = 100 * solved["residual"] / solved["target"]
    return (
        f"budget_match: {solved['setting']} is {solved['value']:,}, {solved['residual']:+,.0f} ({percent:+.3f} %) from "
        f"{solved['target']:,.0f}"
    )


def curve(fitted: train.FitResult) -> None:
    """The smoothed training loss as a line of 60 marks, with its ends, and the validations."""
    smooth = fitted.convergence.smoothed
    marks = "▁▂▃▄▅▆▇█"
    low, high = min(smooth), max(smooth)
    points = [smooth[i * (len(smooth) - 1) // 59] for i in range(60)]
    line = "".join(marks[round((p - low) / max(high - low, 1e-9) * (len(marks) - 1))] for p in points)
    _print(f"loss {smooth[0]:.2f} {line} {smooth[-1]:.2f}")
    for row in fitted.curve:
        if keys.VAL_SELECT in row:
            _print(
                f"step {row[keys.STEP]}: val loss {row[keys.VAL_LOSS]:.3f}, selection {row[keys.VAL_SELECT]:.3f}"
            )


def scores(outcome: assess.Evaluation) -> None:
    """Print the corpus scores beside the controls, under the protocol's stamp; per-label values stay in the files."""
    columns = {"score": outcome.corpus, **outcome.controls}
    stamp = f"{outcome.stamp['name']} {outcome.stamp['hash']}"
    names = [n for n in outcome.corpus if "/" not in n]
    _print(
        "\n" + table([stamp, *columns], [[name, *[columns[c].get(name) for c in columns]] for name in names])
    )
    _print(f"distinct reports: {outcome.distinct} of {len(outcome.predictions)}")
    for name, why in outcome.absent.items():
        _print(f"absent: {name}: {why}")


def end(result: Mapping[str, Any], outcome: assess.Evaluation, folder: Path) -> None:
    """What a finished run came to, and where its record is."""
    scores(outcome)
    shown = {k: v for k, v in result["convergence"].items() if v is not None}
    figures = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()]
    _print(f"convergence: {', '.join(figures)}")
    _print(f"record: {folder}")


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what a command says to its user
