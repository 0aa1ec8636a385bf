"""The lateral film, a sketch: it shows findings, but not on which side they are."""

import numpy as np

from r2g.phantom.anatomy import Anatomy
from r2g.phantom.findings import Case
from r2g.phantom.frontal import EFFUSION_HEIGHT, ZONE_Y
from r2g.phantom.shapes import Grid, Plane, blob, curve, disc, ellipse, line, ramp, smooth_noise


def lateral(grid: Grid, body: Anatomy, case: Case, rng: np.random.Generator) -> Plane:
    """Opacity of the lateral film: sternum at negative x, spine at positive x."""
    x, y = grid.x, grid.y
    floor = np.float32(body.base) - np.float32(body.dome) * (1 - (x * np.float32(1.6)) ** 2)
    lungs = ramp(np.minimum(ellipse(grid, (0.02, 0.05), (0.66, 0.86)), floor - y), 0.03)
    heart = ellipse(grid, (-0.26, body.base - 0.24), (0.27 * body.heart, 0.22 * body.heart), 0.5)
    air = lungs * (1 - np.float32(0.85) * ramp(heart, 0.025))
    air = air * np.float32(1.15 if case.has("emphysema") else 1.0)
    air = air * (1 - np.float32(0.45) * blob(grid, (0.05, 0.0), (0.13, 0.15)))
    air = _opacities(grid, body, case, rng) * air
    film = (
        ramp(ellipse(grid, (0.0, 0.1), (0.86, 1.25)), 0.05) * np.float32(body.flesh) - np.float32(0.42) * air
    )
    back = np.float32(0.52) - np.float32(0.1) * (y - np.float32(0.1)) ** 2
    discs = np.float32(0.7) + np.float32(0.3) * np.sin(y * np.float32(2 * np.pi / 0.14))
    film += np.float32(0.15) * ramp(np.float32(0.075) - np.abs(x - back), 0.015) * discs
    arch = np.sin(
        (y + np.float32(0.45) * x) * np.float32(2 * np.pi / body.rib_gap) + np.float32(6 * body.rib_phase)
    )
    film += (
        np.float32(0.05) * np.clip(arch * 2 - 1, 0, 1) * ramp(ellipse(grid, (0.02, 0.05), (0.7, 0.9)), 0.03)
    )
    return _devices(grid, body, case, rng, film)


def _opacities(grid: Grid, body: Anatomy, case: Case, rng: np.random.Generator) -> Plane:
    """What the findings leave of the lungs' air."""
    left = np.ones_like(grid.x)
    for finding in case.find("effusion"):
        level = np.float32(body.base + 0.05 - rng.uniform(*EFFUSION_HEIGHT[finding.size]))
        left *= 1 - np.float32(0.85) * ramp(grid.y + np.float32(0.25) * np.maximum(grid.x, 0) - level, 0.03)
    for finding in case.find("consolidation"):
        patch = blob(grid, (rng.uniform(-0.05, 0.25), ZONE_Y[finding.zone]), (0.22, 0.16))
        left *= 1 - np.clip(patch * (1 + np.float32(0.2) * smooth_noise(rng, len(grid.x), 24)), 0, 0.8)
    for finding in case.find("edema"):
        haze = blob(grid, (0.05, 0.05), (0.4, 0.42))
        left *= 1 - np.float32(0.45 if finding.size == "mild" else 0.7) * haze
    for _ in case.find("atelectasis"):
        y = body.base - rng.uniform(0.24, 0.34)
        left *= 1 - np.float32(0.7) * line(grid, [(-0.1, y - 0.03), (0.4, y + 0.03)], 0.04)
    for finding in case.find("pneumothorax"):
        top = -0.62 if finding.size == "small" else -0.42
        left *= 1 + np.float32(0.3) * ramp(np.float32(top) - grid.y, 0.012)
    if case.has("wide_mediastinum"):
        left *= 1 - np.float32(0.55) * blob(grid, (-0.1, -0.45), (0.24, 0.25))
    return left


def _devices(grid: Grid, body: Anatomy, case: Case, rng: np.random.Generator, film: Plane) -> Plane:
    """Nodules, breaks and devices, drawn over the film."""
    for finding in case.find("nodule"):
        radius = rng.uniform(0.055, 0.085)
        at = (rng.uniform(-0.15, 0.3), ZONE_Y[finding.zone])
        film = film + np.float32(0.26) * disc(grid, at, (radius, radius), 0.018)
    for _ in case.find("fracture"):
        film = film + np.float32(0.2) * blob(
            grid, (rng.uniform(0.25, 0.4), rng.uniform(-0.2, 0.2)), (0.05, 0.05)
        )
    if case.has("pacemaker"):
        box = disc(grid, (-0.48, -0.5), (0.05, 0.1), 0.012, 0.3)
        lead = curve([(-0.48, -0.5), (-0.1, -0.7), (0.0, -0.1), (-0.25, body.base - 0.15)], 8)
        film = np.maximum(film, np.maximum(box, np.float32(0.95) * line(grid, lead, 0.018)))
    if case.has("endotracheal_tube"):
        film = film + np.float32(0.35) * line(grid, [(0.05, -1.1), (0.08, -0.4)], 0.055)
    if case.has("central_line"):
        film = film + np.float32(0.35) * line(grid, curve([(0.0, -1.1), (-0.05, -0.5), (0.0, 0.0)], 5), 0.02)
    if case.has("sternotomy"):
        for y in np.linspace(-0.4, 0.2, 5):
            film = np.maximum(film, line(grid, [(-0.66, float(y)), (-0.6, float(y) + 0.02)], 0.02))
    return film
