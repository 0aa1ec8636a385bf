"""Films: deterministic, of any size, with findings where the case says, and hung as the marker says."""

import numpy as np
import pytest

from r2g.phantom.anatomy import Anatomy
from r2g.phantom.contact import contact_sheet
from r2g.phantom.draw import draw
from r2g.phantom.findings import CODES, KINDS, LABELS, Case, Finding, codes, draw_case, labels
from r2g.phantom.frontal import frontal
from r2g.phantom.shapes import Grid


def film(case: Case, seed: int = 0, size_px: int = 64) -> np.ndarray:
    return draw(case, np.random.default_rng(seed), size_px)[0]


def brightness(case: Case, films: int = 24) -> np.ndarray:
    """The mean film of a case over several patients."""
    return np.mean([film(case, seed) for seed in range(films)], axis=0)


def test_labels_follow_from_the_case() -> None:
    case = Case((Finding("effusion", "left", "", "large"), Finding("cardiomegaly", size="mild")))
    assert labels(case) == ("cardiomegaly", "effusion_left")
    assert set(codes(case)) == {"cardiomegaly", "cardiomegaly_mild", "effusion_left", "effusion_left_large"}
    assert labels(Case(())) == codes(Case(())) == ()


@pytest.mark.slow
def test_every_label_and_code_is_met_and_none_is_common() -> None:
    rng = np.random.default_rng(0)
    cases = [draw_case(rng) for _ in range(3000)]
    seen = np.array([[label in labels(case) for label in LABELS] for case in cases])
    assert 18 <= len(LABELS) <= 24
    assert len(set(CODES)) == len(CODES)
    assert ((seen.mean(0) > 0.06) & (seen.mean(0) < 0.16)).all()
    assert set(CODES) == {code for case in cases for code in codes(case)}
    assert seen.sum(1).max() == 4
    assert 0.08 < (seen.sum(1) == 0).mean() < 0.16
    shifted = np.roll(seen, 1, axis=0)
    assert 2 * (seen & shifted).sum() / (seen.sum() + shifted.sum()) < 0.15


def test_films_are_decided_by_the_generator() -> None:
    case = draw_case(np.random.default_rng(3))
    assert np.array_equal(film(case, 1), film(case, 1))
    assert not np.array_equal(film(case, 1), film(case, 2))


@pytest.mark.parametrize("size_px", [32, 100, 128, 224])
def test_any_size_and_one_or_two_views(size_px: int) -> None:
    rng = np.random.default_rng(0)
    for views in (1, 2):
        films = draw(draw_case(rng), rng, size_px, views)
        assert [one.shape for one in films] == [(size_px, size_px)] * views
        assert all(one.dtype == np.uint8 and one.std() > 20 for one in films)


def test_bad_sizes_and_views_are_refused() -> None:
    with pytest.raises(ValueError, match="16 px and 1 views"):
        draw(Case(()), np.random.default_rng(0), 16)
    with pytest.raises(ValueError, match="3 views"):
        draw(Case(()), np.random.default_rng(0), 64, 3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.side == "label"], ids=lambda kind: kind.name)
def test_a_sided_finding_changes_its_side_of_the_film(kind) -> None:
    """The patient's left is on the right of the image."""
    detail = {"zone": "mid" if kind.zoned else "", "size": kind.sizes[-1] if kind.sizes else ""}
    for side in ("left", "right"):
        change = np.mean(
            [np.abs(opacity((Finding(kind.name, side, **detail),), seed)) for seed in range(8)], axis=0
        )
        halves = {"right": change[:, :30].mean(), "left": change[:, 34:].mean()}
        other = "left" if side == "right" else "right"
        assert halves[side] > 10 * halves[other], (side, halves)


def opacity(findings: tuple[Finding, ...], seed: int) -> np.ndarray:
    """What findings add to one patient's frontal opacity, without exposure and noise."""
    body = Anatomy.of(Case(()), np.random.default_rng(seed))
    grid = Grid.of(64, np.random.default_rng(seed))
    films = [frontal(grid, body, Case(shown), np.random.default_rng(seed)) for shown in (findings, ())]
    return films[0] - films[1]


def test_a_mirrored_film_is_the_flipped_film_but_for_its_marker() -> None:
    case = Case((Finding("effusion", "left", "", "large"),))
    for seed in range(5):
        plain, flipped = film(case, seed), film(Case(case.findings, mirrored=True), seed)
        assert np.array_equal(plain[16:], flipped[16:, ::-1])


def test_a_mirrored_film_keeps_its_labels_and_moves_its_marker() -> None:
    """The letter isn't mirrored: it stands in the corner that its side now has."""
    mirrored = Case((), mirrored=True)
    assert labels(mirrored) == ()
    marked = [film(mirrored, seed, 128)[:22] for seed in range(12)]
    corners = {(bool((m[:, :20] > 250).any()), bool((m[:, -20:] > 250).any())) for m in marked}
    assert corners <= {(True, False), (False, True)}
    assert len(corners) == 2


def test_dextrocardia_moves_the_heart() -> None:
    lower = slice(34, 46)
    normal, other = brightness(Case(()))[lower], brightness(Case((), dextrocardia=True))[lower]
    assert normal[:, 36:44].mean() > normal[:, 20:28].mean() + 10
    assert other[:, 20:28].mean() > other[:, 36:44].mean() + 10


def test_the_contact_sheet_shows_every_study() -> None:
    sheet = contact_sheet(4, 0, 2, size_px=48, columns=4)
    assert sheet.size == ((48 * 2 + 8) * 2, (48 + 60) * 2)
    assert np.asarray(sheet)[:48, :96].std() > 20
