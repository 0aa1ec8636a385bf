"""From a case to its films: exposure, noise, the side's marker, and how the film is hung."""

import numpy as np

from r2g.phantom.anatomy import Anatomy
from r2g.phantom.findings import Case
from r2g.phantom.frontal import frontal
from r2g.phantom.lateral import lateral
from r2g.phantom.shapes import Grid, Plane, smooth_noise

VIEWS = ("frontal", "lateral")
MARKER_SHARE = 0.75
_GLYPHS = {
    "L": ("1....", "1....", "1....", "1....", "1....", "1....", "11111"),
    "R": ("1111.", "1...1", "1...1", "1111.", "1.1..", "1..1.", "1...1"),
}


def draw(case: Case, rng: np.random.Generator, size_px: int = 128, views: int = 1) -> list[np.ndarray]:
    """Draw a study's films of one patient.

    Args:
        case: what the study shows.
        rng: decides anatomy, position, exposure and noise.
        size_px: height and width.
        views: 1 for the frontal film, 2 for frontal and lateral.

    Returns:
        uint8 arrays [height, width], frontal first.

    Raises:
        ValueError: the size is below 32 px, or the number of views isn't 1 or 2.
    """
    if size_px < 32 or not 1 <= views <= len(VIEWS):
        raise ValueError(f"films need size_px >= 32 and 1 or 2 views, got {size_px} px and {views} views")
    body = Anatomy.of(case, rng)
    films = [_expose(frontal(Grid.of(size_px, rng), body, case, rng), rng)]
    if case.mirrored:
        films[0] = films[0][:, ::-1].copy()
    if case.mirrored or case.dextrocardia or rng.random() < MARKER_SHARE:
        _mark(films[0], case.mirrored, rng)
    if views == 2:
        films.append(_expose(lateral(Grid.of(size_px, rng), body, case, rng), rng))
    return [np.asarray(film * 255 + 0.5, np.uint8) for film in films]


def _expose(film: Plane, rng: np.random.Generator) -> Plane:
    """Contrast, brightness, uneven exposure, and noise that depends on neither."""
    size = len(film)
    contrast, shift, grain = rng.uniform(0.85, 1.12), rng.normal(0.0, 0.03), rng.uniform(0.010, 0.026)
    film = (film - np.float32(0.45)) * np.float32(contrast) + np.float32(0.47 + shift)
    film += np.float32(0.02) * smooth_noise(rng, size, 4)
    film += np.float32(grain) * rng.standard_normal(film.shape, dtype=np.float32)
    return np.clip(film, 0.0, 1.0)


def _mark(film: Plane, mirrored: bool, rng: np.random.Generator) -> None:
    """Put the lead letter of a side in that side's upper corner; on a mirrored film, in the other one."""
    letter = "L" if rng.random() < 0.5 else "R"
    glyph = np.array([[mark == "1" for mark in row] for row in _GLYPHS[letter]], np.float32)
    size = len(film)
    scale = max(1, round(size / 90))
    glyph = np.kron(glyph, np.ones((scale, scale), np.float32))
    height, width = glyph.shape
    on_image_right = (letter == "L") != mirrored
    top, margin = int(size * rng.uniform(0.03, 0.06)), int(size * rng.uniform(0.03, 0.07))
    start = size - margin - width if on_image_right else margin
    patch = film[top : top + height, start : start + width]
    np.maximum(patch, glyph[: patch.shape[0], : patch.shape[1]], out=patch)
