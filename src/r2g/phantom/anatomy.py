"""The normal chest: how it varies between patients, and its outlines seen from the front."""

from dataclasses import dataclass

import numpy as np

from r2g.phantom.findings import Case
from r2g.phantom.shapes import Grid, Plane, disc, ramp

CARDIAC_SCALE = {"": (0.88, 1.05), "mild": (1.28, 1.42), "marked": (1.5, 1.7)}


@dataclass(frozen=True)
class Anatomy:
    """One patient's proportions, in film coordinates (the film's half-width is 1)."""

    chest: float
    apex: float
    base: float
    dome: float
    heart: float
    heart_x: float
    mediastinum: float
    knob: float
    spine_bend: float
    rib_gap: float
    rib_phase: float
    flesh: float
    breast: float
    heart_side: float

    @classmethod
    def of(cls, case: Case, rng: np.random.Generator) -> "Anatomy":
        heart = case.find("cardiomegaly")
        inflated = case.has("emphysema")
        curved = case.has("scoliosis")
        bend = rng.uniform(0.10, 0.17) * rng.choice((-1, 1)) if curved else rng.normal(0, 0.008)
        scale = rng.uniform(*CARDIAC_SCALE[heart[0].size if heart else ""])
        return cls(
            chest=rng.uniform(0.74, 0.84) + 0.03 * inflated,
            apex=rng.uniform(-0.82, -0.74),
            base=rng.uniform(0.54, 0.64) + (0.14 if inflated else 0.0),
            dome=rng.uniform(0.01, 0.04) if inflated else rng.uniform(0.15, 0.21),
            heart=scale * (0.88 if inflated and not heart else 1.0),
            heart_x=rng.uniform(0.08, 0.13),
            mediastinum=rng.uniform(0.24, 0.29) if case.has("wide_mediastinum") else rng.uniform(0.10, 0.13),
            knob=rng.uniform(0.06, 0.09),
            spine_bend=float(bend),
            rib_gap=rng.uniform(0.155, 0.18),
            rib_phase=rng.uniform(0.0, 1.0),
            flesh=rng.uniform(0.56, 0.66),
            breast=rng.choice((0.0, 1.0)) * rng.uniform(0.03, 0.08),
            heart_side=-1.0 if case.dextrocardia else 1.0,
        )


@dataclass(frozen=True)
class Outlines:
    """Soft masks of the parts that findings are placed against, and the distances behind them."""

    beside: Plane
    left: Plane
    edge: Plane
    floor: Plane
    chest: Plane
    heart: Plane
    middle: Plane
    spine: Plane

    @property
    def air(self) -> Plane:
        return self.chest * (1 - np.float32(0.92) * self.heart) * (1 - self.middle)


def outline(grid: Grid, body: Anatomy) -> Outlines:
    """Lungs, heart, mediastinum and spine of the frontal view.

    `beside` is the distance from the midline, `left` 1 left of it, `edge` the lateral border of the lungs at
    each height, `floor` the diaphragm's height at each column.
    """
    x, y = grid.x, grid.y
    beside, left = np.abs(x), (x > 0).astype(np.float32)
    rise = np.clip((np.float32(body.base) - y) * np.float32(1 / (body.base - body.apex)), 0.0, 1.0)
    edge = np.float32(body.chest) * np.sqrt(np.float32(1) - rise * rise * rise) ** np.float32(0.9)
    hump = (beside - np.float32(0.40)) * np.float32(1 / 0.42)
    floor = np.float32(body.base) - np.float32(body.dome) * (1 - hump * hump) + np.float32(0.05) * left - 0.02
    chest = ramp(np.minimum(np.minimum(edge - beside, floor - y), beside - np.float32(0.09)), 0.03)
    return Outlines(
        beside, left, edge, floor, chest, _heart(grid, body), _middle(grid, body), _spine(grid, body)
    )


def _heart(grid: Grid, body: Anatomy) -> Plane:
    side = body.heart_side
    centre = (side * (body.heart_x + 0.10 * (body.heart - 1)), body.base - 0.25)
    radii = (0.31 * body.heart, 0.23 * (0.4 + 0.6 * body.heart))
    return disc(grid, centre, radii, 0.025, side * 0.55)


def _middle(grid: Grid, body: Anatomy) -> Plane:
    """The mediastinum with the aortic knob; wide ones are wide above the heart."""
    y = grid.y
    wide = np.float32(body.mediastinum) * (1 - np.float32(0.25) * np.clip(-y - 0.3, 0.0, 1.0))
    band = ramp(np.minimum(wide - np.abs(grid.x), y + np.float32(0.78)), 0.025)
    side = body.heart_side
    knob = disc(grid, (side * (body.mediastinum + 0.01), -0.27), (body.knob, body.knob * 1.2), 0.02)
    return np.maximum(band, knob)


def midline(grid: Grid, body: Anatomy) -> Plane:
    """The spine's x at every height."""
    return np.float32(body.spine_bend) * np.sin(np.float32(np.pi * 0.9) * (grid.y + np.float32(0.55)))


def _spine(grid: Grid, body: Anatomy) -> Plane:
    away = np.abs(grid.x - midline(grid, body))
    discs = np.float32(0.75) + np.float32(0.25) * np.sin(grid.y * np.float32(2 * np.pi / 0.125))
    return ramp(np.float32(0.065) - away, 0.015) * discs
