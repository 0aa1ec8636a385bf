"""The CheXpert labeller on sentences made up for it, what its labels add up to, and the scores worked out by hand."""

import csv
import json
from pathlib import Path

import pytest

from r2g import label as command
from r2g.chexpert.labeller import Label, label
from r2g.chexpert.lexicon import FIVE, OBSERVATIONS, observations
from r2g.chexpert.scope import find_cues
from r2g.chexpert.spelling import corrected, distance
from r2g.chexpert.text import sentences
from r2g.core.types import Prediction
from r2g.metrics.chexpert_f1 import ChexpertF1

SHORT = {
    "cardiomediastinum": "Enlarged Cardiomediastinum",
    "heart": "Cardiomegaly",
    "opacity": "Lung Opacity",
    "lesion": "Lung Lesion",
    "edema": "Edema",
    "consolidation": "Consolidation",
    "pneumonia": "Pneumonia",
    "atelectasis": "Atelectasis",
    "pneumothorax": "Pneumothorax",
    "effusion": "Pleural Effusion",
    "pleura": "Pleural Other",
    "fracture": "Fracture",
    "devices": "Support Devices",
}
SIGNS = {"+": Label.positive, "-": Label.negative, "?": Label.uncertain}

SENTENCES = Path(__file__).with_name("chexpert_sentences.txt").read_text().splitlines()
ROWS = [[part.strip() for part in line.split("|")] for line in SENTENCES if "|" in line]


@pytest.mark.parametrize(("text", "expected"), ROWS, ids=[text for text, _ in ROWS])
def test_sentences(text: str, expected: str) -> None:
    found = {k: v for k, v in label(text).items() if v is not Label.blank and k != "No Finding"}
    assert found == {SHORT[mark[1:]]: SIGNS[mark[0]] for mark in expected.split()}


def test_the_table_covers_every_observation_with_every_label() -> None:
    assert len(ROWS) >= 120
    given = {mark for _, expected in ROWS for mark in expected.split()}
    assert {mark[1:] for mark in given} == set(SHORT)
    assert {f"{sign}{name}" for sign in "+-" for name in SHORT} <= given
    assert set(SHORT.values()) | {"No Finding"} == set(OBSERVATIONS)
    assert [o.name for o in observations()][:-1] == list(OBSERVATIONS[:-1])
    assert set(FIVE) < set(OBSERVATIONS)


def test_the_strongest_mention_wins() -> None:
    assert label("No edema. Possible edema.")["Edema"] is Label.uncertain
    assert label("Possible edema. No edema. Mild edema.")["Edema"] is Label.positive
    assert label("")["Edema"] is Label.blank


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Label.positive),
        ("The lungs are clear. No effusion. A pacemaker is in place.", Label.positive),
        ("Possible pneumonia.", Label.blank),
        ("Small effusion.", Label.blank),
        ("Scoliosis, otherwise clear lungs.", Label.blank),
        ("No scoliosis or emphysema.", Label.positive),
    ],
)
def test_no_finding(text: str, expected: Label) -> None:
    assert label(text)["No Finding"] is expected


def test_hierarchy_is_an_option() -> None:
    text = "Right lower lobe pneumonia. Cardiomegaly."
    assert label(text)["Lung Opacity"] is Label.blank
    marks = label(text, hierarchy=True)
    assert marks["Lung Opacity"] is marks["Enlarged Cardiomediastinum"] is Label.positive
    assert label("Possible pneumonia.", hierarchy=True)["Lung Opacity"] is Label.blank


def test_what_was_asked_is_not_what_was_found() -> None:
    text = "INDICATION: Pneumonia, effusion.\nCOMPARISON: None.\n\nFINDINGS: Mild edema.\nIMPRESSION: No fracture."
    marks = label(text)
    assert marks["Pneumonia"] is marks["Pleural Effusion"] is Label.blank
    assert (marks["Edema"], marks["Fracture"]) == (Label.positive, Label.negative)


def test_sentences_keep_numbers_and_lose_layout() -> None:
    assert sentences("1. A 1.5 cm\nnodule.\n2. Air-space disease (mild)") == [
        "a 1.5 cm nodule",
        "airspace disease , mild",
    ]


def test_spelling_leaves_real_words_alone() -> None:
    assert corrected("pneumothroax") == "pneumothorax"
    assert corrected("engorgement") == "engorgement"
    assert [corrected(word) for word in ("diffusion", "perfusion", "infusion", "table", "fractured")] == [
        "diffusion",
        "perfusion",
        "infusion",
        "table",
        "fractured",
    ]
    assert distance("effusion", "efufsion") == 1
    assert distance("", "ab") == distance("ab", "") == 2


def test_of_two_cues_the_longer_counts() -> None:
    text = "no change in the effusion"
    assert [(cue.kind, text[cue.start : cue.end]) for cue in find_cues(text)] == [
        ("pseudo", "no change in the")
    ]
    text = "no history of failure"
    assert [text[cue.start : cue.end] for cue in find_cues(text)] == ["no history of"]


def test_scores_by_hand() -> None:
    # Cardiomegaly: hit. Edema: false. Effusion: uncertain in the reference, so false, or a hit. No Finding: missed.
    pairs = [
        ("Cardiomegaly. Edema.", "Cardiomegaly."),
        ("Small effusion.", "Possible effusion."),
        ("Edema.", ""),
    ]
    rows = [Prediction(str(i), reference, written) for i, (written, reference) in enumerate(pairs)]
    scores = ChexpertF1().score(rows)
    assert scores.absent is None
    corpus = scores.corpus
    # as negative: hits 1; false: edema, effusion, edema; missed: No Finding of the third
    assert corpus["chexpert14_f1_micro_uncertain_negative"] == pytest.approx(2 / 6)
    assert corpus["chexpert14_precision_micro_uncertain_negative"] == pytest.approx(1 / 4)
    assert corpus["chexpert14_recall_micro_uncertain_negative"] == pytest.approx(1 / 2)
    assert corpus["chexpert14_f1_macro_uncertain_negative"] == pytest.approx(1 / 2)
    assert corpus["chexpert5_f1_micro_uncertain_negative"] == pytest.approx(2 / 5)
    assert corpus["chexpert5_f1_macro_uncertain_negative"] == 1.0
    assert corpus["chexpert_f1_uncertain_negative/Cardiomegaly"] == 1.0
    assert "chexpert_f1_uncertain_negative/Pleural Effusion" not in corpus
    # as positive: hits 2; false: edema twice; missed: No Finding
    assert corpus["chexpert14_f1_micro_uncertain_positive"] == pytest.approx(4 / 7)
    assert corpus["chexpert5_f1_micro_uncertain_positive"] == pytest.approx(4 / 6)
    assert corpus["chexpert14_f1_macro_uncertain_positive"] == pytest.approx(2 / 3)
    assert corpus["chexpert_recall_uncertain_positive/Pleural Effusion"] == 1.0
    assert scores.per_report["chexpert14_f1_uncertain_negative"] == [pytest.approx(2 / 3), 0.0, 0.0]
    assert scores.per_report["chexpert5_f1_uncertain_positive"] == [pytest.approx(2 / 3), 1.0, 0.0]
    assert set(ChexpertF1().names) <= set(corpus)
    for reading in ("uncertain_negative", "uncertain_positive"):
        hits, wrong, missed = (
            sum(scores.per_report[f"chexpert14_{n}_{reading}"]) for n in ("hits", "false", "missed")
        )
        assert corpus[f"chexpert14_f1_micro_{reading}"] == pytest.approx(
            2 * hits / (2 * hits + wrong + missed)
        )


def test_no_reports_no_score() -> None:
    assert ChexpertF1().score([]).absent == "no reports to score"


def test_command_labels_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "a", "report": "No effusion."}, {"id": "b", "report": "Possible edema."}]
    lines, table, out = tmp_path / "in.jsonl", tmp_path / "in.csv", tmp_path / "out.csv"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table.write_text("id,text\na,No effusion.\nb,Possible edema.\n")
    command.main([str(lines), "--out", str(out)])
    with out.open(newline="") as stream:
        written = list(csv.DictReader(stream))
    assert [row["id"] for row in written] == ["a", "b"]
    assert list(written[0]) == ["id", *OBSERVATIONS]
    assert (written[0]["Pleural Effusion"], written[1]["Edema"], written[0]["Edema"]) == (
        "negative",
        "uncertain",
        "blank",
    )
    command.main([str(table), "--column", "text"])
    assert capsys.readouterr().out.splitlines() == out.read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "content"), [("in.txt", "x"), ("in.csv", "id,text\n1,x\n"), ("in.jsonl", "{")]
)
def test_command_refuses_what_it_cannot_read(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SystemExit, match=r"r2g\.label: "):
        command.main([str(tmp_path / name)])
