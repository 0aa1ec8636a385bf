"""Label F1: its counts and its 0/0 cases, worked out by hand on a reader that reads label names."""

import pytest

from r2g.core.types import Prediction
from r2g.metrics.label_f1 import LabelF1
from r2g.phantom.findings import LABELS
from r2g.scores.label_f1 import label_f1

A, B, C = LABELS[:3]


@pytest.fixture
def _plain_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is the names of its labels: the reader itself has tests of its own."""
    monkeypatch.setattr(label_f1, "read", lambda text: frozenset(text.split()))


def predictions(*pairs: tuple[str, tuple[str, ...] | None]) -> list[Prediction]:
    return [Prediction(str(i), "a reference", text, labels) for i, (text, labels) in enumerate(pairs)]


@pytest.mark.usefixtures("_plain_reader")
def test_counts_by_hand() -> None:
    # hits: A, B; false: B (2nd), C (3rd); missed: B (3rd)
    scores = LabelF1().score(predictions((f"{A} {B}", (A, B)), (f"{B}", ()), (f"{C}", (B,)), ("", ())))
    assert scores.absent is None
    assert scores.corpus["label_precision_micro"] == pytest.approx(2 / 4)
    assert scores.corpus["label_recall_micro"] == pytest.approx(2 / 3)
    assert scores.corpus["label_f1_micro"] == pytest.approx(4 / 7)
    assert scores.corpus[f"label_f1/{A}"] == 1.0
    assert scores.corpus[f"label_f1/{B}"] == pytest.approx(2 / 4)
    assert scores.corpus["label_f1_macro"] == pytest.approx(0.75)
    assert scores.per_report["label_f1"] == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.usefixtures("_plain_reader")
def test_micro_scores_can_be_recomputed_from_the_counts_of_the_reports() -> None:
    scores = LabelF1().score(predictions((f"{A} {B}", (A,)), (f"{C}", (B, C)), ("", (A,))))
    hits, wrong, missed = (sum(scores.per_report[f"label_{n}"]) for n in ("hits", "false", "missed"))
    assert scores.corpus["label_f1_micro"] == pytest.approx(2 * hits / (2 * hits + wrong + missed))


@pytest.mark.usefixtures("_plain_reader")
def test_only_labels_of_the_references_have_scores_of_their_own() -> None:
    corpus = LabelF1().score(predictions((f"{C}", (A,)))).corpus
    assert f"label_f1/{A}" in corpus
    assert f"label_f1/{C}" not in corpus
    assert corpus["label_f1_macro"] == 0.0


@pytest.mark.usefixtures("_plain_reader")
@pytest.mark.parametrize(
    ("text", "labels", "precision", "recall", "f1"),
    [("", (), 1.0, 1.0, 1.0), ("", (A,), 0.0, 0.0, 0.0), (A, (), 0.0, 0.0, 0.0)],
    ids=["both empty", "nothing found", "nothing there"],
)
def test_nothing_by_nothing(
    text: str, labels: tuple[str, ...], precision: float, recall: float, f1: float
) -> None:
    corpus = LabelF1().score(predictions((text, labels))).corpus
    assert corpus["label_precision_micro"] == precision
    assert corpus["label_recall_micro"] == recall
    assert corpus["label_f1_micro"] == corpus["label_f1_macro"] == f1


def test_absent_where_labels_are_unknown() -> None:
    scores = LabelF1().score(predictions(("", (A,)), ("", None)))
    assert scores.corpus == {}
    assert scores.absent == "1 of 2 studies have no known labels"
    assert LabelF1().score([]).absent is not None


@pytest.mark.usefixtures("_plain_reader")
def test_labels_of_another_vocabulary_are_absent_in_a_run_and_refused_by_the_module() -> None:
    scores = LabelF1().score(predictions(("", ("goitre",)), ("", (A, "cyst"))))
    assert scores.corpus == {}
    assert scores.absent == "labels that its reader doesn't know: cyst, goitre"
    with pytest.raises(ValueError, match="unknown labels: goitre"):
        label_f1.LabelF1(keep_in_memory=True).compute(predictions=[""], references=[["goitre"]])


def test_references_may_be_texts() -> None:
    texts = ["There is a large left pleural effusion.", "The heart and lungs are normal."]
    result = label_f1.LabelF1(keep_in_memory=True).compute(predictions=texts, references=texts)
    assert result["label_f1_micro"] == 1.0
    assert result["per_report"]["label_f1"] == [1.0, 1.0]
    listed = label_f1.LabelF1(keep_in_memory=True).compute(
        predictions=texts, references=[["effusion_left"], []]
    )
    assert listed["label_f1_micro"] == 1.0
