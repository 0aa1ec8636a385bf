"""Soft-edged shapes on a grid of anatomical coordinates, the strokes that films are drawn with."""

from dataclasses import dataclass

import numpy as np

Plane = np.ndarray
"""float32 [height, width]."""


@dataclass(frozen=True)
class Grid:
    """Coordinates of every pixel in the patient: x from right (-1) to left (+1), y from top to bottom."""

    x: Plane
    y: Plane
    pixel: float

    @classmethod
    def of(cls, size_px: int, rng: np.random.Generator) -> "Grid":
        """A square film's grid, slightly rotated, shifted and scaled as patients stand."""
        axis = np.linspace(-1.0, 1.0, size_px, dtype=np.float32)
        angle, zoom = rng.normal(0.0, 0.035), rng.uniform(0.93, 1.06)
        dx, dy = rng.normal(0.0, 0.025, 2)
        column, row = axis[None, :] - dx, axis[:, None] - dy
        cos, sin = np.float32(np.cos(angle) * zoom), np.float32(np.sin(angle) * zoom)
        return cls(cos * column + sin * row, cos * row - sin * column, 2.0 / size_px)

    def flipped(self) -> "Grid":
        return Grid(-self.x, self.y, self.pixel)


def ramp(distance: Plane, softness: float) -> Plane:
    """0 well outside (negative distance), 1 well inside, linear over the softness."""
    return np.clip(distance * np.float32(0.5 / softness) + np.float32(0.5), 0.0, 1.0)


def ellipse(grid: Grid, centre: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0) -> Plane:
    """A field that is 0 on the ellipse's edge and positive inside, about a distance near the edge."""
    dx, dy = grid.x - np.float32(centre[0]), grid.y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    u = (cos * dx + sin * dy) * np.float32(1.0 / radii[0])
    v = (cos * dy - sin * dx) * np.float32(1.0 / radii[1])
    return (np.float32(1.0) - np.sqrt(u * u + v * v)) * np.float32(min(radii))


def blob(grid: Grid, centre: tuple[float, float], radii: tuple[float, float]) -> Plane:
    """A bell of height 1."""
    u = (grid.x - np.float32(centre[0])) * np.float32(1.0 / radii[0])
    v = (grid.y - np.float32(centre[1])) * np.float32(1.0 / radii[1])
    return np.exp(-(u * u + v * v))


def disc(
    grid: Grid, centre: tuple[float, float], radii: tuple[float, float], softness: float, tilt: float = 0.0
) -> Plane:
    """A filled ellipse with soft edges; only its surroundings are computed."""
    reach = max(radii) + softness
    near = _window(grid, [(centre[0] - reach, centre[1] - reach), (centre[0] + reach, centre[1] + reach)])
    out = np.zeros_like(grid.x)
    out[near] = ramp(ellipse(Grid(grid.x[near], grid.y[near], grid.pixel), centre, radii, tilt), softness)
    return out


def line(grid: Grid, points: list[tuple[float, float]], width: float) -> Plane:
    """A polyline with rounded joints, at least about a pixel wide; only its surroundings are computed."""
    half = max(width, 1.1 * grid.pixel) / 2
    out = np.zeros_like(grid.x)
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        reach = half + grid.pixel
        corners = [(min(x0, x1) - reach, min(y0, y1) - reach), (max(x0, x1) + reach, max(y0, y1) + reach)]
        near = _window(grid, corners)
        dx, dy = x1 - x0, y1 - y0
        px, py = grid.x[near] - np.float32(x0), grid.y[near] - np.float32(y0)
        along = (px * np.float32(dx) + py * np.float32(dy)) * np.float32(1 / (dx * dx + dy * dy))
        np.clip(along, 0.0, 1.0, out=along)
        px -= along * np.float32(dx)
        py -= along * np.float32(dy)
        part = out[near]
        np.maximum(part, ramp(np.float32(half) - np.sqrt(px * px + py * py), grid.pixel), out=part)
    return out


def _window(grid: Grid, corners: list[tuple[float, float]]) -> tuple[slice, slice]:
    """The rows and columns that hold a box of coordinates, looked up on every fourth pixel."""
    step, slack = 4, 8 * grid.pixel
    (x0, y0), (x1, y1) = corners
    x, y = grid.x[::step, ::step], grid.y[::step, ::step]
    hit = (x > x0 - slack) & (x < x1 + slack) & (y > y0 - slack) & (y < y1 + slack)
    rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return (
        slice(max(0, step * rows[0] - step), step * rows[-1] + 2 * step),
        slice(max(0, step * columns[0] - step), step * columns[-1] + 2 * step),
    )


def curve(points: list[tuple[float, float]], steps: int = 8) -> list[tuple[float, float]]:
    """A smooth polyline through the Bezier curve that the points control."""
    t = np.linspace(0.0, 1.0, steps + 1)[:, None]
    level = [np.asarray(point, float)[None, :] for point in points]
    while len(level) > 1:
        level = [(1 - t) * a + t * b for a, b in zip(level, level[1:], strict=False)]
    return [(float(x), float(y)) for x, y in level[0]]


def smooth_noise(rng: np.random.Generator, size_px: int, cells: int) -> Plane:
    """Low-frequency noise of about unit size: a coarse random grid, linearly interpolated."""
    coarse = rng.standard_normal((cells + 1, cells + 1), dtype=np.float32)
    at = np.linspace(0.0, cells - 1e-3, size_px, dtype=np.float32)
    low = at.astype(np.intp)
    part = (at - low)[:, None]
    rows = coarse[low] * (1 - part) + coarse[low + 1] * part
    return rows[:, low] * (1 - part.T) + rows[:, low + 1] * part.T
