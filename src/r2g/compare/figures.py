"""The report's pictures as plotly figures: plain data, which the page draws and colours for light and dark."""

import math
from collections.abc import Mapping
from typing import Any

from r2g.compare import words
from r2g.compare.analyse import Comparison, Row
from r2g.compare.loss import loss_figures
from r2g.compare.marks import COLOURS, GREY, SYMBOLS, Figure, figure, marks, spread
from r2g.compare.strips import controls, heat, to_target


def figures(found: Comparison) -> list[Figure]:
    """All pictures that these records give, in the report's order."""
    colours = colours_of(found)
    made = [quality(found, colours)]
    if len(found.scored) > 1:
        made.append(gaps(found, colours))
    made += [Figure(*parts) for parts in loss_figures(found, colours)]
    if found.target is not None:
        made.append(to_target(found, colours))
    made.append(controls(found))
    if any(row.labels for row in found.rows):
        made.append(heat(found))
    return made


def colours_of(found: Comparison) -> dict[str, tuple[str, str]]:
    """Colour and symbol of each arm; the symbol changes with the colour, for those who see few colours."""
    return {
        row.name: (COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)]) for i, row in enumerate(found.rows)
    }


def quality(found: Comparison, colours: Mapping[str, tuple[str, str]]) -> Figure:
    """The primary score against trainable parameters."""
    name = found.spec.primary
    front = set(words.front(found))
    corner = [row for row in found.scored if row.name in front]
    line = {"color": GREY, "width": 1.5, "dash": "dot", "shape": "hv"}
    data: list[dict[str, Any]] = [
        {
            "x": [row.trainable for row in corner],
            "y": [figure(row.scores[name].value) for row in corner],
            "mode": "lines",
            "line": line,
            "name": "Pareto front",
            "hoverinfo": "skip",
        }
    ]
    for row in found.scored:
        data += _point(row, name, *colours[row.name])
    layout = {
        "xaxis": {"type": "log", "title": {"text": "trainable parameters"}, **_ticks(found)},
        "yaxis": {"title": {"text": name}},
        "height": 430,
    }
    note = (
        "Filled: the mean over the seeds with its 95 % interval over reports; small: each seed. Left and up is better. "
        "The dotted line joins the arms that no other beats in both."
    )
    return Figure("quality", f"What a parameter buys: {name}", note, data, layout)


def _ticks(found: Comparison) -> dict[str, Any]:
    """1, 2 and 5 of each decade, over a range that leaves room for the points at its ends."""
    sizes = [max(1, row.trainable) for row in found.scored]
    low, high = math.log10(min(sizes)), math.log10(max(sizes))
    room = max(0.05 * (high - low), 0.04)
    ends = low - room, high + room
    steps = [m * 10**e for e in range(math.floor(ends[0]), math.ceil(ends[1]) + 1) for m in (1, 2, 5)]
    if high - low > 2.5:
        steps = [step for step in steps if str(step)[0] == "1"]
    shown = [step for step in steps if ends[0] <= math.log10(step) <= ends[1]]
    return {
        "range": [figure(end) for end in ends],
        "tickvals": shown,
        "ticktext": [_size(step) for step in shown],
    }


def _size(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count // size} {unit}"
    return str(count)


def _point(row: Row, name: str, colour: str, symbol: str) -> list[dict[str, Any]]:
    found = row.scores[name]
    seeds = [figure(value) for value in found.seeds.values()]
    return [
        {
            "x": [row.trainable] * len(seeds),
            "y": seeds,
            "mode": "markers",
            "marker": {"color": colour, "symbol": f"{symbol}-open", "size": 6, "opacity": 0.75},
            "legendgroup": row.name,
            "showlegend": False,
            "text": [f"{row.name}, seed {seed}" for seed in found.seeds],
            "hovertemplate": "%{text}: %{y:.4f}<extra></extra>",
        },
        {
            "x": [row.trainable],
            "y": [figure(found.value)],
            "error_y": spread(found.value, found.low, found.high, colour),
            "mode": "markers",
            "marker": {"color": colour, "symbol": symbol, "size": 11},
            "name": row.name,
            "legendgroup": row.name,
            "hovertemplate": f"{row.name}<br>%{{x:,}} trainable<br>{name} %{{y:.4f}}<extra></extra>",
        },
    ]


def gaps(found: Comparison, colours: Mapping[str, tuple[str, str]]) -> Figure:
    """Differences to the baseline, over what could have been seen."""
    name = found.spec.primary
    rows = [row for row in found.rows if name in row.differences]
    bars = [row.differences[name].detectable for row in rows]
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [row.name for row in rows],
            "x": [figure(2 * size) for size in bars],
            "base": [figure(-size) for size in bars],
            "marker": {"color": GREY, "opacity": 0.22},
            "width": 0.62,
            "name": "smaller than detectable",
            "hoverinfo": "skip",
        }
    ]
    for row in rows:
        gap, (colour, symbol) = row.differences[name], colours[row.name]
        seeds = [figure(value) for value in gap.seeds.values()]
        apart = {"color": colour, "symbol": f"{symbol}-open", "size": 6, "opacity": 0.75}
        hover = "%{x:+.4f}<extra></extra>"
        data.append(marks([row.name] * len(seeds), seeds, apart) | {"hovertemplate": f"a seed: {hover}"})
        data.append(
            marks([row.name], [figure(gap.value)], {"color": colour, "symbol": symbol, "size": 11})
            | {
                "error_x": spread(gap.value, gap.low, gap.high, colour),
                "hovertemplate": f"{row.name}: {hover}",
            }
        )
    layout = {
        "xaxis": {"title": {"text": f"{name}, arm minus {found.baseline}"}, "zeroline": True},
        "yaxis": {"autorange": "reversed", "type": "category", "ticklabelstandoff": 6},
        "height": 150 + 40 * len(rows),
    }
    note = (
        "Filled: the difference with its 95 % interval; small: each seed. The grey bar holds differences that this "
        "many reports would probably not show."
    )
    return Figure("gaps", f"Against {found.baseline}", note, data, layout)
