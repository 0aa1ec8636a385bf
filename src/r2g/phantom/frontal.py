"""The frontal film: normal anatomy with the case's findings in it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from r2g.phantom.anatomy import Anatomy, Outlines, outline
from r2g.phantom.findings import Case, Finding
from r2g.phantom.shapes import Grid, Plane, blob, curve, disc, line, ramp, smooth_noise

ZONE_Y = {"upper": -0.47, "mid": -0.10, "lower": 0.25}
EFFUSION_HEIGHT = {"small": (0.13, 0.18), "moderate": (0.34, 0.44), "large": (0.68, 0.86)}
SIGN = {"left": 1.0, "right": -1.0}


@dataclass(frozen=True)
class _Scene:
    """What every finding is drawn against."""

    grid: Grid
    parts: Outlines
    body: Anatomy
    rng: np.random.Generator

    def on(self, side: str) -> Plane:
        """1 on one side of the midline, 0 on the other."""
        return self.parts.left if side == "left" else 1 - self.parts.left


def frontal(grid: Grid, body: Anatomy, case: Case, rng: np.random.Generator) -> Plane:
    """Opacity of the frontal film, about 0 for air to 1 for metal."""
    parts = outline(grid, body)
    scene = _Scene(grid, parts, body, rng)
    air = parts.air * (1 - _vessels(grid, parts, rng, 1.7 if case.has("edema") else 1.0))
    if case.has("emphysema"):
        air = air * np.float32(1.18)
    for finding in case.findings:
        if finding.name in _OPACITIES:
            air = _OPACITIES[finding.name](scene, finding) * air
    film = _body(grid, body, parts) - np.float32(0.47) * air + np.float32(0.13) * parts.spine
    film -= np.float32(0.10) * _airways(grid, parts)
    film += _bones(scene, case)
    for finding in case.findings:
        if finding.name in _OVERLAYS:
            film = _OVERLAYS[finding.name](scene, finding, film)
    return film


def _body(grid: Grid, body: Anatomy, parts: Outlines) -> Plane:
    """Soft tissue: neck, shoulders and trunk, the abdomen with the stomach's bubble, the breasts' shadows."""
    wide = np.interp(grid.y[:, 0], (-1, -0.86, -0.72, -0.5, 1), (0.24, 0.27, 0.8, 0.95, 0.93))
    flesh = ramp(wide[:, None].astype(np.float32) - parts.beside, 0.03) * np.float32(body.flesh)
    bubble = blob(grid, (0.42 * body.heart_side, body.base + 0.02), (0.13, 0.055))
    flesh -= np.float32(0.16) * bubble * ramp(grid.y - parts.floor, 0.03)
    flesh += np.float32(0.06) * ramp(grid.y - parts.floor, 0.04)
    if body.breast:
        flesh += np.float32(body.breast) * disc(_folded(grid, parts), (0.42, 0.32), (0.34, 0.28), 0.04)
    return flesh


def _folded(grid: Grid, parts: Outlines) -> Grid:
    """A grid in which both sides have the left side's coordinates."""
    return Grid(parts.beside, grid.y, grid.pixel)


def _vessels(grid: Grid, parts: Outlines, rng: np.random.Generator, strength: float) -> Plane:
    """Branching shadows that spread from the hila and thin out."""
    dx, dy = parts.beside - np.float32(0.14), grid.y + np.float32(0.02)
    away = np.sqrt(dx * dx + dy * dy)
    angle = np.arctan2(dy, dx) + parts.left * np.float32(rng.uniform(0, 3))
    wiggle = np.float32(3) * away + np.float32(rng.uniform(0, 6))
    rays = np.maximum(np.sin(11 * angle + wiggle), np.sin(7 * angle - 2 * wiggle))
    fade = np.exp(away * np.float32(-4.2))
    hilum = np.exp(away * away * np.float32(-1 / 0.014))
    branches = np.float32(0.5) * fade * np.clip(rays, 0, 1) ** 2
    return np.float32(strength) * (np.float32(0.42) * hilum + branches)


def _airways(grid: Grid, parts: Outlines) -> Plane:
    trachea = ramp(np.minimum(np.float32(0.045) - parts.beside, np.float32(-0.22) - grid.y), 0.015)
    bronchi = line(grid, [(-0.16, -0.05), (0.0, -0.22), (0.18, -0.03)], 0.05)
    return np.maximum(trachea, np.float32(0.8) * bronchi)


def _bones(scene: _Scene, case: Case) -> Plane:
    """Ribs, with steps where they are broken, and clavicles."""
    broken = {finding.side: _break(scene.body, scene.rng) for finding in case.find("fracture")}
    y, callus = scene.grid.y, np.zeros_like(scene.grid.y)
    for side, (x, at, step) in broken.items():
        lateral = ramp(scene.parts.beside - np.float32(x), 0.012) * scene.on(side)
        near = blob(scene.grid, (SIGN[side] * (x + 0.05), at), (0.22, 0.14))
        y = y + np.float32(step) * lateral * near
        callus = callus + np.float32(0.28) * blob(scene.grid, (SIGN[side] * x, at), (0.03, 0.06))
        callus -= np.float32(0.25) * blob(scene.grid, (SIGN[side] * (x + 0.035), at), (0.013, 0.07))
    beside = scene.parts.beside
    inside = ramp(np.minimum(scene.parts.edge + np.float32(0.05) - beside, np.float32(0.72) - y), 0.02)
    arch = (beside - np.float32(0.28)) ** 2 * np.float32(0.9)
    wave = (y - arch) * np.float32(1 / scene.body.rib_gap) + np.float32(scene.body.rib_phase)
    back = np.clip(np.sin(wave * np.float32(2 * np.pi)) * 3 - np.float32(0.6), 0, 1)
    front = np.sin((y - np.float32(1.1) * (np.float32(0.8) - beside)) * np.float32(2 * np.pi / 0.24))
    ribs = np.float32(0.105) * back + np.float32(0.045) * np.clip(front * 2 - 1, 0, 1)
    collar = curve([(0.05, -0.62), (0.3, -0.60), (0.45, -0.80), (0.8, -0.76)], 5)
    return ribs * inside + callus + np.float32(0.13) * line(_folded(scene.grid, scene.parts), collar, 0.055)


def _break(body: Anatomy, rng: np.random.Generator) -> tuple[float, float, float]:
    """Where a rib is broken: distance from the midline, height, and how far the ends stand apart."""
    return rng.uniform(0.45, 0.58), rng.uniform(-0.25, 0.25), rng.uniform(0.45, 0.6) * body.rib_gap


def _fluid(scene: _Scene, finding: Finding) -> Plane:
    """An effusion: opaque from the base up to a level that rises to the side wall."""
    height = scene.rng.uniform(*EFFUSION_HEIGHT[finding.size])
    out = np.clip((scene.parts.beside - np.float32(0.15)) * np.float32(1 / 0.6), 0, 1)
    level = np.float32(scene.body.base + 0.03 - height) - np.float32(0.16) * out * out * out
    level += np.float32(0.10) * (1 - out)
    return 1 - np.float32(0.94) * ramp(scene.grid.y - level, 0.03) * scene.on(finding.side)


def _free_air(scene: _Scene, finding: Finding) -> Plane:
    """A pneumothorax: black outside the lung's edge, the shrunken lung a little denser."""
    gap = scene.rng.uniform(0.14, 0.18) if finding.size == "small" else scene.rng.uniform(0.28, 0.36)
    lung = _lung_edge(scene.grid, scene.parts, scene.body, gap)
    outside = ramp(-lung, 0.012)
    return 1 + scene.on(finding.side) * (np.float32(0.38) * outside - np.float32(0.12) * (1 - outside))


def _lung_edge(grid: Grid, parts: Outlines, body: Anatomy, gap: float) -> Plane:
    above = grid.y - np.float32(body.apex + gap * 1.2)
    taper = np.float32(gap) * np.clip(np.float32(0.75) - grid.y, 0.15, 1.0)
    return np.minimum(parts.edge - taper - parts.beside, above)


def _lung_line(scene: _Scene, finding: Finding, film: Plane) -> Plane:
    """The white line of the pleura, so that the lung's edge is visible at low contrast."""
    rim = 0.16 if finding.size == "small" else 0.32
    edge = np.exp(
        -(
            (_lung_edge(scene.grid, scene.parts, scene.body, rim) / np.float32(max(0.014, scene.grid.pixel)))
            ** 2
        )
    )
    return film + np.float32(0.14) * edge * scene.on(finding.side) * scene.parts.chest


def _consolidated(scene: _Scene, finding: Finding) -> Plane:
    centre = (
        SIGN[finding.side] * scene.rng.uniform(0.38, 0.50),
        ZONE_Y[finding.zone] + scene.rng.normal(0, 0.03),
    )
    patch = blob(scene.grid, centre, (scene.rng.uniform(0.19, 0.26), scene.rng.uniform(0.13, 0.18)))
    mottle = np.float32(1) + np.float32(0.22) * smooth_noise(scene.rng, len(scene.grid.x), 24)
    return 1 - np.clip(np.float32(1.25) * patch * mottle, 0, 0.85) * scene.on(finding.side)


def _congested(scene: _Scene, finding: Finding) -> Plane:
    """Edema: haze around both hila, mottled, with short lines at the bases."""
    haze = blob(_folded(scene.grid, scene.parts), (0.26, 0.05), (0.36, 0.42))
    mottle = np.float32(1) + np.float32(0.35) * smooth_noise(scene.rng, len(scene.grid.x), 20)
    return 1 - np.clip((0.5 if finding.size == "mild" else 0.8) * haze * mottle, 0, 0.9).astype(np.float32)


def _collapsed(scene: _Scene, finding: Finding) -> Plane:
    """Atelectasis: two or three plates of opacity above the diaphragm."""
    plates = np.zeros_like(scene.grid.x)
    for k in range(scene.rng.integers(2, 4)):
        y = scene.body.base - 0.20 - 0.10 * k + scene.rng.normal(0, 0.012)
        tilt = scene.rng.uniform(-0.08, 0.08)
        sign = SIGN[finding.side]
        ends = [
            (sign * scene.rng.uniform(0.24, 0.32), y + tilt),
            (sign * scene.rng.uniform(0.62, 0.70), y - tilt),
        ]
        plates = np.maximum(plates, line(scene.grid, ends, 0.034))
    return 1 - np.float32(0.85) * plates


def _round(scene: _Scene, finding: Finding, film: Plane) -> Plane:
    reach = {"upper": 0.40, "mid": 0.55, "lower": 0.60}[finding.zone]
    centre = (
        SIGN[finding.side] * scene.rng.uniform(reach - 0.12, reach),
        ZONE_Y[finding.zone] + scene.rng.normal(0, 0.05),
    )
    radius = scene.rng.uniform(0.055, 0.085)
    return film + np.float32(0.30) * disc(
        scene.grid, centre, (radius, radius * scene.rng.uniform(0.9, 1.1)), 0.018
    )


def _pacemaker(scene: _Scene, finding: Finding, film: Plane) -> Plane:
    sign, side = SIGN[finding.side], scene.body.heart_side
    x, y = sign * scene.rng.uniform(0.50, 0.62), scene.rng.uniform(-0.60, -0.48)
    box = disc(scene.grid, (x, y), (0.105, 0.085), 0.012)
    tip = (side * scene.rng.uniform(0.18, 0.28), scene.body.base - scene.rng.uniform(0.12, 0.18))
    lead = line(
        scene.grid,
        curve([(x, y), (sign * 0.15, -0.75), (-0.12 * side, -0.3), (-0.15 * side, 0.5), tip], 9),
        0.018,
    )
    return np.maximum(film, np.maximum(box * np.float32(1.0), lead * np.float32(0.95)))


def _tube(scene: _Scene, _: Finding, film: Plane) -> Plane:
    x, end = scene.rng.normal(0, 0.008), scene.rng.uniform(-0.42, -0.33)
    wall = line(scene.grid, [(x, -1.1), (x, end)], 0.06) - np.float32(0.6) * line(
        scene.grid, [(x, -1.1), (x, end)], 0.03
    )
    return film + np.float32(0.42) * wall


def _catheter(scene: _Scene, finding: Finding, film: Plane) -> Plane:
    sign = SIGN[finding.side]
    start = (sign * scene.rng.uniform(0.17, 0.24), -1.1)
    path = curve([start, (sign * 0.16, -0.55), (-0.13, -0.5), (-0.12, scene.rng.uniform(-0.12, 0.05))], 7)
    return film + np.float32(0.36) * line(scene.grid, path, 0.02)


def _wires(scene: _Scene, _: Finding, film: Plane) -> Plane:
    """Sternotomy: a column of wire loops."""
    rings = np.float32(0)
    x = scene.rng.normal(0, 0.01)
    for y in np.linspace(-0.45, 0.28, 6) + scene.rng.normal(0, 0.012, 6):
        tilt, soft = scene.rng.normal(0, 0.4), max(0.008, scene.grid.pixel / 2)
        outer = disc(scene.grid, (x, float(y)), (0.043, 0.036), soft, tilt)
        rings = np.maximum(rings, outer - disc(scene.grid, (x, float(y)), (0.024, 0.017), soft, tilt))
    return np.maximum(film, rings * np.float32(1.05))


_OPACITIES: dict[str, Callable[..., Plane]] = {
    "effusion": _fluid, "pneumothorax": _free_air, "consolidation": _consolidated, "edema": _congested,
    "atelectasis": _collapsed,
}  # fmt: skip
_OVERLAYS: dict[str, Callable[..., Plane]] = {
    "pneumothorax": _lung_line, "nodule": _round, "pacemaker": _pacemaker, "endotracheal_tube": _tube,
    "central_line": _catheter, "sternotomy": _wires,
}  # fmt: skip
