"""Loss against steps, samples and seconds: an arm's mean over its seeds, and the band that they lie in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from r2g.compare.analyse import Comparison
from r2g.compare.marks import COLOURS, GREY
from r2g.compare.runs import Run
from r2g.core.convergence import converge

_POINTS = 160
_AXES = {"steps": "steps", "samples": "studies seen", "seconds": "seconds of training"}
_DASHES = ("solid", "dash", "dot", "dashdot")


def loss_figures(
    found: Comparison, colours: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str, str, list[dict[str, Any]], dict[str, Any]]]:
    """Key, title, note, data and layout of each picture; no seconds where those can't be compared."""
    made = []
    for axis, says in _AXES.items():
        if axis in found.refused:
            continue
        data: list[dict[str, Any]] = []
        for i, row in enumerate(found.rows):
            lines = [line for run in row.arm.runs if (line := _smoothed(run, axis)) is not None]
            if any(np.isfinite(loss).any() for _, loss in lines):
                dash = _DASHES[i // len(COLOURS) % len(_DASHES)]
                data += _band(row.name, lines, colours[row.name][0], dash)
        layout: dict[str, Any] = {
            "xaxis": {"title": {"text": says}},
            "yaxis": {"title": {"text": "training loss, nats"}},
            "height": 400,
            "hovermode": "closest",
        }
        if found.target is not None:
            layout["shapes"] = [_line(found.target)]
        note = "Smoothed over 10 entries. Line: the mean over the seeds; band: from the lowest seed to the highest."
        note += "" if found.target is None else f" Dotted: the target, {found.target:g}."
        made.append((f"loss-{axis}", f"Loss against {says}", note, data, layout))
    return made


def _line(target: float) -> dict[str, Any]:
    line = {"color": GREY, "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": target, "y1": target, "line": line}


def _smoothed(run: Run, axis: str) -> tuple[np.ndarray, np.ndarray] | None:
    curve = run.curve
    if curve is None:
        return None
    loss = np.asarray(converge(curve).smoothed)
    return np.asarray(getattr(curve, axis), dtype=float), np.where(np.isfinite(loss), loss, np.nan)


def _band(
    name: str, lines: Sequence[tuple[np.ndarray, np.ndarray]], colour: str, dash: str
) -> list[dict[str, Any]]:
    grid = np.linspace(min(x[0] for x, _ in lines), max(x[-1] for x, _ in lines), _POINTS)
    values = np.array([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in lines])
    seen = np.isfinite(values).sum(axis=0)
    grid, values, seen = grid[seen > 0], values[:, seen > 0], seen[seen > 0]
    mean = np.nansum(values, axis=0) / seen
    line = {"color": colour, "width": 2, "dash": dash}
    drawn = [
        {
            "x": _round(grid),
            "y": _round(mean),
            "mode": "lines",
            "line": line,
            "name": name,
            "legendgroup": name,
        }
        | {"hovertemplate": f"{name}: %{{y:.4f}}<extra></extra>"}
    ]
    both = seen > 1
    if not both.any():
        return drawn
    low, high = np.nanmin(values[:, both], axis=0), np.nanmax(values[:, both], axis=0)
    around = np.concatenate([grid[both], grid[both][::-1]]), np.concatenate([high, low[::-1]])
    band: dict[str, Any] = {
        "x": _round(around[0]),
        "y": _round(around[1]),
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
    }
    band |= {"fillcolor": _faint(colour), "hoverinfo": "skip", "showlegend": False, "legendgroup": name}
    return [band, *drawn]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def _round(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
