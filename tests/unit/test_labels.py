"""Label tables on disk, and scores of draws of them held to the metrics on those very reports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2g.core import labels
from r2g.core.resample import bootstrap, others
from r2g.core.types import Prediction
from r2g.metrics.chexpert_f1 import ChexpertF1
from r2g.metrics.label_f1 import LabelF1
from r2g.phantom.findings import draw_case
from r2g.phantom.findings import labels as labels_of
from r2g.phantom.words import report

_REPORTS = 30
_METRICS: dict[str, Callable[[], Any]] = {"label_f1": LabelF1, "chexpert_f1": ChexpertF1}


@pytest.fixture(scope="module")
def predictions() -> list[Prediction]:
    draw = np.random.default_rng(5)
    cases = [draw_case(draw) for _ in range(_REPORTS)]
    texts = [report(case, draw, "data") for case in cases]
    written = [texts[i if i % 2 else (i + 1) % _REPORTS] for i in range(_REPORTS)]
    rows = zip(cases, texts, written, strict=True)
    return [
        Prediction(f"test_{i}", text, hypothesis, tuple(labels_of(case)))
        for i, (case, text, hypothesis) in enumerate(rows)
    ]


@pytest.mark.parametrize("name", sorted(_METRICS))
def test_every_label_score_of_any_draw_is_the_metric_s(predictions: list[Prediction], name: str) -> None:
    metric = _METRICS[name]()
    whole = metric.score(predictions)
    held = labels.Labels(tuple(p.id for p in predictions), whole.tables)
    assert {score for table in whole.tables.values() for score in table.scores} == set(whole.corpus)
    weights = np.concatenate([np.ones((1, _REPORTS)), bootstrap(_REPORTS, 3, seed=1)])
    for row in weights.astype(int):
        corpus = metric.score([predictions[i] for i in np.repeat(np.arange(_REPORTS), row)]).corpus
        for score in whole.corpus:
            assert _value(held, score, row) == pytest.approx(
                corpus.get(score, np.nan), abs=1e-12, nan_ok=True
            )


def _value(held: labels.Labels, score: str, row: np.ndarray) -> float:
    table = held.table_of(score)
    if table is None:
        pytest.fail(f"no table has {score}")
    how = table.scores[score]
    return float(how.of(row[None] @ table.counts(how))[0])


@pytest.mark.parametrize("name", sorted(_METRICS))
def test_moved_reports_score_as_the_control_does(predictions: list[Prediction], name: str) -> None:
    source = others(_REPORTS, 7)
    metric = _METRICS[name]()
    blind = [
        Prediction(p.id, p.reference, predictions[j].hypothesis, p.labels)
        for p, j in zip(predictions, source.tolist(), strict=True)
    ]
    told = metric.score(blind).corpus
    tables = {key: table.moved(source) for key, table in metric.score(predictions).tables.items()}
    held = labels.Labels(tuple(p.id for p in predictions), tables)
    assert {score: _value(held, score, np.ones(_REPORTS)) for score in told} == pytest.approx(told, abs=1e-12)


def test_nothing_by_nothing_is_as_the_metrics_have_it() -> None:
    empty = np.zeros((1, 6))
    for part, macro in (("f1", False), ("f1", True), ("precision", False), ("recall", False)):
        assert labels.LabelScore(part, (0, 1), macro).of(empty).tolist() == [1.0]
    assert np.isnan(labels.LabelScore("f1", (0,), alone=True).of(np.array([[0.0, 3.0, 0.0]]))).all()
    assert labels.LabelScore("precision", (0,)).of(np.array([[0.0, 0.0, 2.0]])).tolist() == [0.0]
    assert labels.LabelScore("recall", (0,)).of(np.array([[0.0, 2.0, 0.0]])).tolist() == [0.0]


def test_the_file_gives_back_what_was_saved_in_few_bytes(
    predictions: list[Prediction], tmp_path: Path
) -> None:
    many = [
        Prediction(f"{i:06d}", p.reference, p.hypothesis, p.labels) for i, p in enumerate(predictions * 40)
    ]
    tables = ChexpertF1().score(many).tables
    held = labels.Labels(tuple(p.id for p in many), tables)
    path = tmp_path / labels.FILE
    labels.save(path, held)
    back = labels.load(path)
    assert back.ids == held.ids
    assert back.tables.keys() == tables.keys()
    for key, table in tables.items():
        assert back.tables[key].names == table.names
        assert back.tables[key].scores == table.scores
        assert np.array_equal(back.tables[key].found, table.found)
        assert np.array_equal(back.tables[key].known, table.known)
    assert path.stat().st_size < 30 * len(many)
    assert [p.name for p in tmp_path.iterdir()] == [labels.FILE]


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / labels.FILE
    np.savez(path, schema=np.array(2))
    with pytest.raises(ValueError, match="not a file of labels of schema 1"):
        labels.load(path)
