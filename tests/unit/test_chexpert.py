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

# A sentence, and each label that it gives: + positive, - negative, ? uncertain. What isn't listed is blank.
SENTENCES = """
# plain statements
There is a moderate left pleural effusion. | +effusion
A tiny apical pneumothorax persists. | +pneumothorax
Pulmonary edema has worsened. | +edema
Dense consolidation fills the right lower lobe. | +consolidation
Right upper lobe pneumonia. | +pneumonia
Plate-like atelectasis crosses the left base. | +atelectasis
Hazy opacity at the right base. | +opacity
Patchy infiltrate in the lingula. | +opacity
Bibasilar airspace disease. | +opacity
A 9 mm nodule projects over the left apex. | +lesion
Calcified granuloma in the right upper lobe. | +lesion
A spiculated mass is present. | +lesion
Old healed rib fractures on the left. | +fracture
Biapical pleural thickening. | +pleura
Calcified pleural plaques on both sides. | +pleura
Collapse of the left lower lobe. | +atelectasis
Right-sided volume loss. | +atelectasis
Fluid in the minor fissure. | +effusion
A large hydropneumothorax is seen on the right. | +effusion +pneumothorax
Mild vascular congestion with cephalization of the vessels. | +edema
Kerley B lines are visible. | +edema
Findings of congestive heart failure. | +edema
# heart and mediastinum
The heart is mildly enlarged. | +heart
Stable cardiomegaly. | +heart
Enlarged cardiac silhouette. | +heart
The cardiac silhouette remains moderately enlarged. | +heart
Mild enlargement of the cardiac silhouette. | +heart
Heart size is normal. | -heart
Normal heart size. | -heart
The heart is not enlarged. | -heart
Heart size is top normal. | -heart
Heart size is at the upper limits of normal. | -heart
Cardiac silhouette within normal limits. | -heart
No cardiomegaly. | -heart
Borderline cardiomegaly. | ?heart
The heart is borderline in size. | ?heart
The mediastinum is widened. | +cardiomediastinum
Widening of the superior mediastinum. | +cardiomediastinum
Mediastinal contours are unremarkable. | -cardiomediastinum
The mediastinum is not widened. | -cardiomediastinum
The cardiomediastinal silhouette is normal. | -cardiomediastinum
The cardiomediastinal silhouette is enlarged. | +cardiomediastinum
The heart and mediastinum are normal. | -heart -cardiomediastinum
# negation ahead
No pneumothorax. | -pneumothorax
There is no evidence of pneumonia. | -pneumonia
Without evidence of edema. | -edema
No new consolidation. | -consolidation
No definite pleural effusion. | -effusion
No acute displaced fracture. | -fracture
Negative for pneumothorax. | -pneumothorax
Free of consolidation. | -consolidation
Absence of pleural fluid. | -effusion
The lungs are clear of infiltrate. | -opacity
The films do not show a pneumothorax. | -pneumothorax
There is no longer a pneumothorax. | -pneumothorax
Resolved pneumonia. | -pneumonia
Interval resolution of the pulmonary edema. | -edema
Interval clearing of the left base consolidation. | -consolidation
There is no radiographic sign of failure or edema. | -edema
# lists that share a negation
No focal consolidation, effusion, or pneumothorax. | -consolidation -effusion -pneumothorax
No consolidation, no effusion and no fracture. | -consolidation -effusion -fracture
Neither effusion nor pneumothorax. | -effusion -pneumothorax
No pneumonia, edema, effusion or pneumothorax is seen. | -pneumonia -edema -effusion -pneumothorax
Negative for focal consolidation, pleural effusion, or pneumothorax. | -consolidation -effusion -pneumothorax
No suspicious nodule, effusion, or pneumothorax. | -lesion -effusion -pneumothorax
Lungs without consolidation, nodule/mass and/or effusion. | -consolidation -lesion -effusion
# where a negation ends
No pneumothorax, but a small left effusion. | -pneumothorax +effusion
No edema; however, there is atelectasis. | -edema +atelectasis
No atelectasis or airspace disease. | -atelectasis -opacity
No pneumothorax although a small effusion remains. | -pneumothorax +effusion
No consolidation except for linear atelectasis. | -consolidation +atelectasis
No effusion, and there is mild edema. | -effusion +edema
No pneumothorax and the effusion is unchanged. | -pneumothorax +effusion
No pneumothorax, left basilar atelectasis is unchanged. | -pneumothorax +atelectasis
No pneumothorax with a small effusion on the left. | -pneumothorax +effusion
Apart from a small effusion, no consolidation. | +effusion -consolidation
Small effusion, no pneumothorax. | +effusion -pneumothorax
Cardiomegaly without edema. | +heart -edema
No pneumothorax is seen and the effusion is small. | -pneumothorax +effusion
No pneumothorax and small left effusion. | -pneumothorax +effusion
No consolidation - mild cardiomegaly. | -consolidation +heart
No appreciable pneumothorax, unchanged left effusion. | -pneumothorax +effusion
# negation behind
Pneumothorax is not seen. | -pneumothorax
Effusion or pneumothorax is not identified. | -effusion -pneumothorax
Effusion and pneumothorax are not seen. | -effusion -pneumothorax
There is cardiomegaly and pneumothorax is not seen. | +heart -pneumothorax
The effusion has resolved. | -effusion
The previously noted right pneumothorax is no longer visualized. | -pneumothorax
Pneumonia has been ruled out. | -pneumonia
Pneumonia is unlikely. | -pneumonia
Pneumonia ruled out. | -pneumonia
Pneumonia is felt to be less likely. | -pneumonia
Pneumothorax: none. | -pneumothorax
Pneumothorax has resolved with a persistent effusion. | -pneumothorax +effusion
# words that only look like a negation
No change in the small left effusion. | +effusion
No interval change in the effusion. | +effusion
No significant interval change in bilateral effusions or bibasilar atelectasis. | +effusion +atelectasis
No increase in the pneumothorax. | +pneumothorax
Unchanged small effusion. | +effusion
Not only an effusion but also a pneumothorax. | +effusion +pneumothorax
The left effusion has not changed. | +effusion
The effusion has nearly resolved. | +effusion
The effusion has decreased but not resolved. | +effusion
Cardiomegaly without significant change. | +heart
# doubt
Cannot exclude pneumonia. | ?pneumonia
Opacity may represent atelectasis or pneumonia. | +opacity ?atelectasis ?pneumonia
Possible small effusion. | ?effusion
Question of a left pneumothorax. | ?pneumothorax
Question small effusion. | ?effusion
Findings suspicious for pneumonia. | ?pneumonia
Concerning for a rib fracture. | ?fracture
Pneumonia cannot be ruled out. | ?pneumonia
Superimposed infection cannot be entirely excluded. | ?pneumonia
Pneumothorax is not excluded. | ?pneumothorax
Atelectasis versus pneumonia at the left base. | ?atelectasis ?pneumonia
Probable bibasilar atelectasis. | ?atelectasis
This could reflect edema. | ?edema
In the appropriate clinical setting, this is compatible with pneumonia. | ?pneumonia
Trace effusion cannot be excluded. | ?effusion
Blunting of the left costophrenic angle. | ?effusion
Compression deformity of T8. | ?fracture
No opacity suspicious for pneumonia. | -opacity -pneumonia
No pleural line to suggest pneumothorax. | -pneumothorax
No effusion, possible pneumonia. | -effusion ?pneumonia
No blunting of the costophrenic angles. | -effusion
? pneumonia | ?pneumonia
Doubt pneumonia. | -pneumonia
There isn't a pneumothorax. | -pneumothorax
The right effusion, previously seen, has resolved. | -effusion
No cardiomegaly with bilateral effusions. | -heart +effusion
# questions and histories state nothing
Evaluate for pneumonia. |
History of pneumonia. |
Subtle fractures may not be seen. |
# devices
The endotracheal tube ends 4 cm above the carina. | +devices
Right PICC with its tip in the SVC. | +devices
Left chest wall pacemaker. | +devices
Sternotomy wires are intact. | +devices
Surgical clips in the right upper quadrant. | +devices
Interval removal of the right PICC line. | -devices
The NG tube has been removed. | -devices
Port-A-Cath in place. | +devices
Prosthetic aortic valve. | +devices
# near misses
Small pericardial effusion. |
The sternal wire is fractured. | +devices
Residuals of granulomatous infection. |
Soft tissue edema of the chest wall. |
Calcification of the mitral valve. |
Loss of height of a collapsed vertebral body. |
Calcified hilar lymph nodes. |
Hiatal hernia. |
# gaps, slips and layout
No XXXX effusion or pneumothorax. | -effusion -pneumothorax
Heart size XXXX within normal limits. | -heart
Sternotomy XXXX are intact. | +devices
There is a ___ cm nodule on the left. | +lesion
Small right pneumothroax. | +pneumothorax
Mild cardiomegally. | +heart
No plueral efusion. | -effusion
Left lower lobe consoldiation. | +consolidation
no edema . small effusion . | -edema +effusion
1. No edema. 2. Small effusion. | -edema +effusion
Pneumothorax? Not seen. | ?pneumothorax
A 1.5 cm nodule. No effusion. | +lesion -effusion
"""
ROWS = [line.split(" | ") for line in SENTENCES.replace(" |\n", " | \n").split("\n") if " | " in line]


@pytest.mark.parametrize(("text", "expected"), ROWS, ids=[text for text, _ in ROWS])
def test_sentences(text: str, expected: str) -> None:
    found = {k: v for k, v in label(text).items() if v is not Label.blank and k != "No Finding"}
    assert found == {SHORT[mark[1:]]: SIGNS[mark[0]] for mark in expected.split()}


def test_the_table_covers_every_observation_with_every_label() -> None:
    assert len(ROWS) >= 120
    given = {mark for _, expected in ROWS for mark in expected.split()}
    assert {mark[1:] for mark in given} == set(SHORT)
    assert {f"{sign}{name}" for sign in "+-" for name in SHORT} - given == {"-pleura"}
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
