"""Corpus scores recomputed from hashed n-grams, held to the scorers on random draws of reports."""

from pathlib import Path

import numpy as np
import pytest

from r2g.core import ngrams
from r2g.core.resample import Resampler, bootstrap
from r2g.core.types import Prediction
from r2g.metrics.bleu import Bleu
from r2g.metrics.cider import Cider

STOCK = [
    "the heart is normal in size .",
    "the lungs are clear .",
    "no pleural effusion or pneumothorax is seen .",
    "there is a small left pleural effusion .",
    "the cardiomediastinal silhouette is unremarkable .",
    "low lung volumes with basilar atelectasis .",
    "no acute bony abnormality .",
    "the the the heart",
]


def _texts(seed: int, reports: int) -> list[str]:
    """Random reports, an empty one, one of one word and one of words that nobody else has among them."""
    draw = np.random.default_rng(seed)
    texts = [" ".join(draw.choice(STOCK, size=draw.integers(1, 6))) for _ in range(reports)]
    for place, text in zip(
        draw.permutation(reports), ["", "clear", "sternotomy wires are intact ."], strict=False
    ):
        texts[place] = text
    return texts


def _system(seed: int, wanted: list[str]) -> list[Prediction]:
    written = _texts(seed, len(wanted))
    return [Prediction(f"s{i}", ref, text) for i, (ref, text) in enumerate(zip(wanted, written, strict=True))]


@pytest.fixture(scope="module")
def systems() -> list[list[Prediction]]:
    wanted = _texts(0, 40)
    return [_system(1, wanted), _system(2, wanted), [Prediction(f"s{i}", t, t) for i, t in enumerate(wanted)]]


def _drawn(predictions: list[Prediction], weights: np.ndarray) -> list[Prediction]:
    picked = np.repeat(np.arange(len(predictions)), weights)
    return [
        Prediction(str(i), predictions[p].reference, predictions[p].hypothesis) for i, p in enumerate(picked)
    ]


def _weights(reports: int) -> np.ndarray:
    """Draws with replacement, subsets, one report alone, one report many times, and all of them."""
    draw = np.random.default_rng(3)
    subsets = [(draw.random(reports) < share).astype(np.int32) for share in (0.1, 0.5, 0.9)]
    alone, often = np.zeros((2, reports), np.int32)
    alone[5], often[7] = 1, 9
    return np.stack([*bootstrap(reports, 12, seed=4), *subsets, alone, often, np.ones(reports, np.int32)])


def test_bleu_and_cider_of_any_draw_equal_the_scorers(systems: list[list[Prediction]]) -> None:
    weights = _weights(40)
    ready = Resampler([ngrams.count(system) for system in systems])
    bleu, cider = ready.bleu(weights), ready.cider(weights)
    assert bleu.shape == (len(weights), 3, 4)
    assert cider.shape == (len(weights), 3)
    for r, row in enumerate(weights):
        for s, system in enumerate(systems):
            drawn = _drawn(system, row)
            wanted = Bleu(order=4).score(drawn).corpus
            assert bleu[r, s].tolist() == pytest.approx([wanted[f"bleu_{n}"] for n in (1, 2, 3, 4)], abs=1e-9)
            assert cider[r, s] == pytest.approx(Cider().score(drawn).corpus["cider"], abs=1e-9)


def test_the_draws_differ_and_the_same_seed_draws_the_same() -> None:
    weights = bootstrap(50, 20, seed=1)
    assert (weights.sum(axis=1) == 50).all()
    assert len(np.unique(weights, axis=0)) == 20
    assert (weights == bootstrap(50, 20, seed=1)).all()


def test_scores_depend_neither_on_threads_nor_on_what_else_is_drawn(systems: list[list[Prediction]]) -> None:
    ready = Resampler([ngrams.count(systems[0])])
    weights = bootstrap(40, 30, seed=0)
    assert (ready.cider(weights, threads=1) == ready.cider(weights, threads=3)).all()
    assert ready.cider(weights[17:18])[0, 0] == ready.cider(weights)[17, 0]


def test_saved_and_loaded_they_give_the_same(systems: list[list[Prediction]], tmp_path: Path) -> None:
    counted = ngrams.count(systems[0])
    ngrams.save(tmp_path / ngrams.FILE, counted)
    loaded = ngrams.load(tmp_path / ngrams.FILE)
    assert [p.name for p in tmp_path.iterdir()] == [ngrams.FILE]
    assert (loaded.ids, loaded.references) == (counted.ids, counted.references)
    weights = bootstrap(40, 5, seed=0)
    for ready in (Resampler([loaded]), Resampler([loaded, counted])):
        assert (ready.cider(weights)[:, 0] == Resampler([counted]).cider(weights)[:, 0]).all()
        assert (ready.bleu(weights)[:, 0] == Resampler([counted]).bleu(weights)[:, 0]).all()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", ids=np.array(["a"]))
    with pytest.raises(ValueError, match="not an n-gram file"):
        ngrams.load(tmp_path / "other.npz")


def test_no_word_can_be_looked_up_without_the_references(
    systems: list[list[Prediction]], tmp_path: Path
) -> None:
    ngrams.save(tmp_path / "a.npz", ngrams.count(systems[0]))
    with np.load(tmp_path / "a.npz") as file:
        arrays = {name: file[name] for name in file}
    assert not any(
        b"heart" in a.tobytes() or "heart".encode("utf-32-le") in a.tobytes() for a in arrays.values()
    )
    other = [Prediction(p.id, p.reference + " x", p.hypothesis) for p in systems[0]]
    assert not np.isin(ngrams.count(other).hashes, arrays["hashes"]).any()


def test_systems_of_other_references_or_another_order_are_refused(systems: list[list[Prediction]]) -> None:
    first = ngrams.count(systems[0])
    longer = ngrams.count([Prediction(p.id, p.reference + " .", p.hypothesis) for p in systems[0]])
    turned = ngrams.count(systems[0][::-1])
    assert turned.references == first.references
    for other in (longer, turned):
        with pytest.raises(ValueError, match="n-grams are of other reports"):
            Resampler([first, other])


@pytest.mark.parametrize(
    "weights", [np.zeros((1, 40)), np.ones((1, 39)), np.ones(40)], ids=["none", "few", "flat"]
)
def test_weights_that_draw_nothing_or_other_reports_are_refused(
    weights: np.ndarray, systems: list[list[Prediction]]
) -> None:
    with pytest.raises(ValueError, match="weights must be"):
        Resampler([ngrams.count(systems[0])]).cider(weights)


def test_reports_without_any_word_score_nothing() -> None:
    ready = Resampler([ngrams.count([Prediction("a", "", "clear ."), Prediction("b", " ", "")])])
    assert ready.cider(np.ones((2, 2), np.int32)).tolist() == [[0.0], [0.0]]
    assert ready.bleu(np.ones((1, 2), np.int32)).ravel().tolist() == pytest.approx([0.0] * 4, abs=1e-6)
