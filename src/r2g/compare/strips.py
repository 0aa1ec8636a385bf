"""Pictures with a line an arm: steps to the target, controls, labels."""

from collections.abc import Mapping
from typing import Any

from r2g.compare.analyse import Comparison, Row
from r2g.compare.marks import COLOURS, GREY, Figure, figure, marks

_MOST_LABELS = 40


def to_target(found: Comparison, colours: Mapping[str, tuple[str, str]]) -> Figure:
    """Steps until the target loss, censored runs marked."""
    data: list[dict[str, Any]] = []
    for row in found.rows:
        colour, symbol = colours[row.name]
        for censored in (False, True):
            runs = [one for one in row.reached if one.censored is censored]
            if not runs:
                continue
            mark = {
                "color": colour,
                "symbol": "arrow-right-open" if censored else symbol,
                "size": 11,
                "opacity": 0.85,
            }
            says = "not reached after" if censored else "reached at"
            data.append(
                marks([row.name] * len(runs), [one.value["steps"] for one in runs], mark)
                | {
                    "text": [
                        f"{row.name}, seed {one.seed}: {says} step {one.value['steps']:,}" for one in runs
                    ],
                    "hovertemplate": "%{text}<extra></extra>",
                }
            )
    layout = {
        "xaxis": {
            "title": {"text": f"steps until the loss stays at {found.target:g}"},
            "rangemode": "tozero",
        },
        "yaxis": {"autorange": "reversed", "type": "category", "ticklabelstandoff": 6},
        "height": 130 + 36 * len(found.rows),
        "showlegend": False,
    }
    note = "A mark is a run. An arrow is a censored one: it ended there without having reached the target."
    return Figure("target", "Steps to the target", note, data, layout)


def controls(found: Comparison) -> Figure:
    """The score beside that of reports that don't come from the film."""
    name = found.spec.held_to
    rows = [row for row in found.scored if row.mean("scores", name) is not None]
    kinds = (("shuffled", "x-thin-open"), ("blank", "square-open"), ("constant", "diamond-open"))
    data: list[dict[str, Any]] = []
    for row in rows:
        ends = [row.mean("scores", name), row.control("shuffled", name)]
        if None not in ends:
            line = {"color": GREY, "width": 1.5}
            data.append(
                {"y": [row.name] * 2, "x": [figure(e) for e in ends], "mode": "lines", "line": line}
                | {"showlegend": False, "hoverinfo": "skip"}
            )
    scores = [figure(row.mean("scores", name)) for row in rows]
    names = [row.name for row in rows]
    data.append(
        marks(names, scores, {"color": COLOURS[0], "size": 11}) | {"name": "score", "showlegend": True}
    )
    for kind, symbol in kinds:
        values = [figure(row.control(kind, name)) for row in rows]
        mark = {"color": GREY, "symbol": symbol, "size": 9, "line": {"width": 1.8, "color": GREY}}
        data.append(marks(names, values, mark) | {"name": kind, "showlegend": True})
    layout = {
        "xaxis": {"title": {"text": name}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "type": "category", "ticklabelstandoff": 6},
        "height": 150 + 36 * len(rows),
    }
    note = "The line is what the films are worth: from the same reports given to other studies, to each in its place."
    return Figure("film", "Score and controls", note, data, layout)


def heat(found: Comparison) -> Figure:
    """F1 of each label and arm."""
    rows = [row for row in found.scored if row.labels]
    names = list(dict.fromkeys(name for row in rows for name in row.labels))[:_MOST_LABELS]
    values = [[_mean(row, name) for row in rows] for name in names]
    data = [
        {
            "type": "heatmap",
            "x": [row.name for row in rows],
            "y": [name.replace("_", " ") for name in names],
            "z": values,
            "zmin": 0,
            "zmax": 1,
            "xgap": 2,
            "ygap": 2,
            "texttemplate": "%{z:.2f}",
            "hovertemplate": "%{y}, %{x}: %{z:.3f}<extra></extra>",
            "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.6},
        }
    ]
    layout = {
        "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category", "ticklabelstandoff": 4},
        "xaxis": {"showgrid": False, "type": "category", "side": "top"},
        "height": 130 + 24 * len(names),
    }
    return Figure("labels-map", "F1 of each label", "Means over the seeds.", data, layout)


def _mean(row: Row, label: str) -> float | None:
    return figure(row.labels[label].value, 3) if label in row.labels else None
