"""What the pictures are made of: colours, marks and rounded figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COLOURS = (
    "#4e79a7",
    "#d08a3e",
    "#5a9e6f",
    "#b0627f",
    "#7c6fb0",
    "#3d9aa3",
    "#a8893f",
    "#8c6d62",
    "#6b8e23",
    "#9a9a9a",
)
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "star",
    "hexagon",
    "pentagon",
    "x",
)
GREY = "#8a8f98"


@dataclass(frozen=True)
class Figure:
    """`key` is the anchor; `data` and `layout` are plotly's."""

    key: str
    title: str
    note: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def marks(names: list[str], values: list[Any], marker: Mapping[str, Any]) -> dict[str, Any]:
    return {"y": names, "x": values, "mode": "markers", "marker": dict(marker), "showlegend": False}


def spread(value: float, low: float | None, high: float | None, colour: str) -> dict[str, Any]:
    """Error bars of an interval; none where there is no interval."""
    if low is None or high is None:
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [figure(high - value)],
        "arrayminus": [figure(value - low)],
        "thickness": 1.5,
        "width": 4,
        "color": colour,
    }


def figure(value: Any, digits: int = 6) -> float | None:
    """Rounded to what can be seen, so that the same records give the same bytes everywhere."""
    return None if value is None else float(f"{float(value):.{digits}g}")
