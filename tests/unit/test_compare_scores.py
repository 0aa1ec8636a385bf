"""Scores of drawn and swapped reports, held to the scorers on those very reports."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2g.compare import blind, scores
from r2g.compare.runs import Run, find
from r2g.core import meteor
from r2g.core.resample import Resampler, bootstrap, others
from r2g.core.types import Prediction
from r2g.metrics.bleu import Bleu
from r2g.metrics.cider import Cider
from r2g.metrics.label_f1 import LabelF1
from r2g.metrics.rouge_l import RougeL

_REPORTS = 25
_SCORERS: dict[str, Callable[[], Any]] = {
    "bleu_4": lambda: Bleu(order=4),
    "bleu_1": lambda: Bleu(order=4),
    "rouge_l": RougeL,
    "label_f1_micro": LabelF1,
    "label_precision_micro": LabelF1,
    "label_recall_micro": LabelF1,
    "label_f1_macro": LabelF1,
    "label_f1/cardiomegaly": LabelF1,
}


@pytest.fixture(scope="module")
def pair(made_up: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("pair")
    made_up.make(folder, (made_up.ARMS[0], made_up.ARMS[5]), (0,), _REPORTS)
    return find(["*"], folder)


def _predictions(run: Run) -> list[Prediction]:
    return [Prediction(p["id"], p["reference"], p["hypothesis"], tuple(p["labels"])) for p in run.predictions]


@pytest.mark.parametrize("name", sorted(_SCORERS))
def test_drawn_reports_score_as_the_scorer_says(pair: list[Run], name: str) -> None:
    weights = bootstrap(_REPORTS, 4, seed=1)
    drawn = scores.linear(name, pair[0]).drawn(weights)
    texts = _predictions(pair[0])
    for row, value in zip(weights, drawn, strict=True):
        picked = [texts[i] for i in np.repeat(np.arange(_REPORTS), row)]
        assert value == pytest.approx(_SCORERS[name]().score(picked).corpus[name], abs=1e-9)


@pytest.mark.parametrize("name", sorted(_SCORERS))
def test_swapped_reports_score_as_the_scorer_says(pair: list[Run], name: str) -> None:
    moved = np.random.default_rng(2).integers(0, 2, (3, _REPORTS)).astype(float)
    mine, other = (scores.linear(name, run) for run in pair)
    one, two = (_predictions(run) for run in pair)
    for row, gap in zip(moved, mine.swapped(other, moved), strict=True):
        here = [b if move else a for a, b, move in zip(one, two, row, strict=True)]
        there = [a if move else b for a, b, move in zip(one, two, row, strict=True)]
        value, rest = (_SCORERS[name]().score(side).corpus[name] for side in (here, there))
        assert gap == pytest.approx(value - rest, abs=1e-9)


def test_cider_swaps_as_a_mean_since_the_references_stay(pair: list[Run]) -> None:
    moved = np.random.default_rng(3).integers(0, 2, (1, _REPORTS)).astype(float)
    mine, other = (scores.linear("cider", run) for run in pair)
    one, two = (_predictions(run) for run in pair)
    here = [b if move else a for a, b, move in zip(one, two, moved[0], strict=True)]
    there = [a if move else b for a, b, move in zip(one, two, moved[0], strict=True)]
    value = Cider().score(here).corpus["cider"] - Cider().score(there).corpus["cider"]
    assert mine.swapped(other, moved)[0] == pytest.approx(value, abs=1e-9)


def test_shuffled_n_grams_score_as_the_record_s_control(pair: list[Run]) -> None:
    run = pair[0]
    if run.ngrams is None:
        pytest.fail("the made-up run has no n-grams")
    ready = Resampler([run.ngrams, blind.shuffle(run, run.ngrams)])
    ones = np.ones((1, _REPORTS), np.int32)
    told = run.record["controls"]["shuffled"]
    assert ready.cider(ones)[0] == pytest.approx([run.record["scores"]["cider"], told["cider"]], abs=1e-9)
    assert ready.bleu(ones)[0, 1] == pytest.approx([told[f"bleu_{n}"] for n in range(1, 5)], abs=1e-9)


@pytest.mark.parametrize("name", ["label_f1_micro", "label_f1_macro", "label_precision_micro"])
def test_shuffled_labels_score_as_the_record_s_control_and_as_the_scorer_says(
    pair: list[Run], name: str
) -> None:
    run = pair[0]
    labels = scores.counted(name, run)
    if labels is None:
        pytest.fail("the made-up run has no labels")
    shuffled = scores.Linear(labels, labels.matrix(run, shuffled=True))
    assert shuffled.observed() == pytest.approx(run.record["controls"]["shuffled"][name], abs=1e-9)
    texts = _predictions(run)
    moved = [
        replace(texts[i], hypothesis=texts[j].hypothesis)
        for i, j in enumerate(others(_REPORTS, run.seed).tolist())
    ]
    weights = bootstrap(_REPORTS, 4, seed=1)
    for row, value in zip(weights, shuffled.drawn(weights), strict=True):
        picked = [moved[i] for i in np.repeat(np.arange(_REPORTS), row)]
        assert value == pytest.approx(LabelF1().score(picked).corpus[name], abs=1e-9)


def _judged(run: Run, gaps: tuple[float, float], margin: float = 0.1) -> blind.Seen:
    shuffled = np.full(1001, run.record["controls"]["shuffled"]["cider"])
    spread = np.concatenate([[np.mean(gaps)], np.linspace(*gaps, 1000)])
    return blind.judge(run, "cider", shuffled + spread, shuffled, margin)


def test_a_verdict_needs_the_whole_interval(pair: list[Run]) -> None:
    must = 0.1 * pair[0].record["controls"]["shuffled"]["cider"]
    assert _judged(pair[0], (must + 0.1, must + 0.5)).verdict == "yes"
    assert _judged(pair[0], (must - 0.5, must - 0.1)).verdict == "no"
    assert _judged(pair[0], (must - 0.1, must + 0.1)).verdict == "unclear"
    seen = [_judged(pair[0], (must + 0.1, must + 0.5)), _judged(pair[0], (must - 0.5, must - 0.1))]
    assert blind.together(seen) == "unclear"
    assert blind.together(seen[:1]) == "yes"
    off = blind.judge(pair[0], "cider", np.ones(3), np.full(3, 9.0), 0.1)
    assert off.verdict == "unclear"
    assert "its files give 9.0000" in off.reason


def test_scores_that_the_reports_don_t_give_are_refused(pair: list[Run]) -> None:
    record = {**pair[0].record, "scores": {**pair[0].record["scores"], "rouge_l": 0.9}}
    with pytest.raises(
        scores.ScoreError, match=r"rouge_l of its reports is .*, and record.json says 0.900000"
    ):
        scores.linear("rouge_l", Run(pair[0].folder, record))


def test_what_can_t_be_drawn_says_why(pair: list[Run], tmp_path: Path) -> None:
    assert scores.lacks("rouge_l", pair[0]) is None
    assert scores.lacks("label_f1_macro", pair[0]) is None
    plain = shutil.copytree(pair[0].folder, tmp_path / "plain")
    (plain / "labels.npz").unlink()
    old = Run(plain, pair[0].record)
    assert scores.lacks("label_f1_micro", old) is None
    assert scores.lacks("label_f1_macro", old) == "labels.npz is missing"
    assert scores.lacks_shuffled("label_f1_micro", old) == "labels.npz is missing"
    assert "set blindness_score" in str(scores.lacks_shuffled("rouge_l", pair[0]))
    drawn = [scores.linear("label_f1_micro", run).drawn(np.eye(3, _REPORTS)) for run in (pair[0], old)]
    assert drawn[0] == pytest.approx(drawn[1], abs=1e-12)
    assert scores.lacks("meteor", pair[0]) == "the run doesn't have it"
    rows = [{**row, "meteor": 0.2} for row in pair[0].rows]
    with_meteor = Run(tmp_path, {**pair[0].record, "scores": {**pair[0].record["scores"], "meteor": 0.21}})
    with_meteor.__dict__["rows"] = rows  # a corpus's METEOR is no mean, so its reports don't give it
    assert "METEOR's statistics" in str(scores.lacks("meteor", with_meteor))
    said = dict.fromkeys(meteor.COLUMNS, 3.0) | {"meteor_chunks": 1.0}
    value = 1 - 0.6 * (1 / 3) ** 0.2
    with_meteor.__dict__["rows"] = [{**row, **said, "meteor": value} for row in rows]
    with_meteor.record["scores"]["meteor"] = value
    assert scores.lacks("meteor", with_meteor) is None
    assert scores.linear("meteor", with_meteor).observed() == pytest.approx(value)
    assert (
        scores.lacks("meteor", Run(tmp_path, {**pair[0].record, "absent": {"meteor": "no Java"}}))
        == "no Java"
    )
    assert scores.lacks("cider", Run(tmp_path, pair[0].record)) == "ngrams.npz is missing"
