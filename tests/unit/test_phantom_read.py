"""The reader is exact on generated reports and good on wordings that the generator doesn't use."""

import numpy as np
import pytest

from r2g.phantom.findings import LABELS, draw_case, labels
from r2g.phantom.read import read
from r2g.phantom.words import POOLS, report

FOREIGN = (
    # the heart and the mediastinum
    ("The cardiomediastinal silhouette is mildly enlarged.", "cardiomegaly"),
    ("Moderate cardiac enlargement is again shown.", "cardiomegaly"),
    ("There is an enlarged cardiac silhouette.", "cardiomegaly"),
    ("Heart appears big for this projection.", "cardiomegaly"),
    ("The heart is top normal, not definitely enlarged.", ""),
    ("Heart size normal, mediastinum normal.", ""),
    ("No enlargement of the heart.", ""),
    ("The upper mediastinum looks broadened.", "wide_mediastinum"),
    ("Enlarged mediastinal contour raises concern for aortic injury.", "wide_mediastinum"),
    ("Mediastinal width is normal without widening.", ""),
    # pleura
    ("Moderately large effusion occupies the left hemithorax.", "effusion_left"),
    ("Fluid in the right pleural space.", "effusion_right"),
    ("Effusions are seen bilaterally, right greater than left.", "effusion_left effusion_right"),
    ("Small effusions, one on the left and one on the right.", "effusion_left effusion_right"),
    ("Left pleural effusion is noted; none on the right.", "effusion_left"),
    ("A right effusion but no pneumothorax.", "effusion_right"),
    ("Neither a pneumothorax nor an effusion is identified.", ""),
    ("Effusion and pneumothorax are not seen.", ""),
    ("The pleural spaces are clear of fluid.", ""),
    ("Right apical pneumothorax measuring 2 cm.", "pneumothorax_right"),
    ("A tiny pneumothorax persists at the left apex.", "pneumothorax_left"),
    ("No large pneumothorax, however a small left apical pneumothorax is suspected.", "pneumothorax_left"),
    ("The examination is negative for pneumothorax or hemothorax.", ""),
    ("Left-sided chest tube without residual pneumothorax.", ""),
    ("Left hydrothorax layering posteriorly.", "effusion_left"),
    # lungs
    ("Right middle lobe pneumonia.", "consolidation_right"),
    ("Dense consolidative change throughout the left lower lobe.", "consolidation_left"),
    ("Air space opacification in the right mid lung.", "consolidation_right"),
    ("Multifocal consolidation in both lungs.", "consolidation_left consolidation_right"),
    ("The right lung is clear, while the left lung shows lower zone consolidation.", "consolidation_left"),
    ("The lungs are clear without infiltrate, consolidation or mass.", ""),
    ("Findings do not suggest pneumonia.", ""),
    ("Interstitial oedema with Kerley lines.", "edema"),
    ("Mild pulmonary vascular congestion.", "edema"),
    ("No overt edema.", ""),
    ("Edema has resolved.", ""),
    ("Solitary 8 mm nodule within the left upper lobe.", "nodule_left"),
    ("A round lung mass is present in the right lower lobe.", "nodule_right"),
    ("Nodular density overlying the right mid zone.", "nodule_right"),
    ("No suspicious pulmonary nodules or masses.", ""),
    ("Subsegmental atelectatic change at the right base.", "atelectasis_right"),
    ("Bibasilar atelectasis.", "atelectasis_left atelectasis_right"),
    ("Left basilar streaky opacities reflect atelectasis.", "atelectasis_left"),
    ("Low volumes without atelectasis.", ""),
    ("Lungs are hyperexpanded with flattening of the hemidiaphragms.", "emphysema"),
    ("Severe COPD.", "emphysema"),
    ("No emphysematous change.", ""),
    # bones and devices
    ("Minimally displaced fracture of the left seventh rib.", "fracture_left"),
    ("The right sixth rib is fractured.", "fracture_right"),
    ("Ribs are intact with no fracture line.", ""),
    ("Dextroconvex scoliotic curvature of the thoracic spine.", "scoliosis"),
    ("The spine is straight, without scoliosis.", ""),
    ("Dual-lead pacer from a left subclavian approach.", "pacemaker"),
    ("Pacemaker has been removed.", ""),
    ("ETT tip 4 cm from the carina.", "endotracheal_tube"),
    ("The patient remains intubated.", "endotracheal_tube"),
    ("Right internal jugular catheter tip in the mid SVC.", "central_line"),
    ("PICC terminates at the cavoatrial junction.", "central_line"),
    ("Status post median sternotomy.", "sternotomy"),
    ("No sternal wires.", ""),
    # several at once
    ("Cardiomegaly without edema.", "cardiomegaly"),
    ("No consolidation, effusion, pneumothorax, edema, nodule or fracture.", ""),
    ("Left effusion and right pneumothorax.", "effusion_left pneumothorax_right"),
    ("Effusion on the left and pneumothorax on the right.", "effusion_left pneumothorax_right"),
    (
        "On the left there is an effusion, and on the right a pneumothorax.",
        "effusion_left pneumothorax_right",
    ),
    ("Small left effusion with adjacent atelectasis.", "effusion_left atelectasis_left"),
    ("No effusion, but there is a right upper lobe nodule.", "nodule_right"),
    ("Apart from a small left effusion, no abnormality.", "effusion_left"),
    ("No abnormality other than scoliosis.", "scoliosis"),
    (
        "Enlarged heart, pulmonary edema and bilateral effusions.",
        "cardiomegaly edema effusion_left effusion_right",
    ),
    (
        "A nodule in the left upper lobe and consolidation in the right lower lobe.",
        "nodule_left consolidation_right",
    ),
    ("Left pacemaker, right pleural effusion.", "pacemaker effusion_right"),
    ("Patchy infiltrate at the right base.", "consolidation_right"),
    ("Blunting of the left costophrenic angle suggests a small effusion.", "effusion_left"),
    ("Costophrenic angles are not blunted.", ""),
    ("Large pericardial effusion.", ""),
    ("Left hydropneumothorax.", "effusion_left pneumothorax_left"),
    ("Congestive heart failure.", "edema"),
    ("Bilateral pneumothoraces, larger on the left.", "pneumothorax_left pneumothorax_right"),
    ("Mild edema, no effusions, and a nodule in the right mid zone.", "edema nodule_right"),
)
"""Sentences and the labels that they state, none of them made by the generator."""


def cleaned(text: str) -> str:
    """As report cleaners leave it: lower-cased, punctuation and hyphens gone, sentences joined by ` . `."""
    sentences = [part.strip() for part in text.lower().replace(";", "").split(".")]
    bare = [sentence.replace(",", "").replace("-", "") for sentence in sentences if sentence]
    return " . ".join(bare) + " ."


def f1(pairs: list[tuple[frozenset[str], set[str]]]) -> float:
    hits = sum(len(found & known) for found, known in pairs)
    return 2 * hits / sum(len(found) + len(known) for found, known in pairs)


@pytest.mark.parametrize("reports", [150, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pool", POOLS)
def test_the_reader_is_exact_on_generated_reports(pool: str, reports: int) -> None:
    rng = np.random.default_rng(11)
    for _ in range(reports):
        case = draw_case(rng)
        text = report(case, rng, pool)
        assert read(text) == set(labels(case)), text
        assert read(cleaned(text)) == set(labels(case)), cleaned(text)


@pytest.mark.parametrize("change", [str, str.lower, cleaned, lambda text: text.replace("-", " ")])
def test_the_reader_knows_foreign_wordings(change) -> None:
    known = [(text, set(stated.split())) for text, stated in FOREIGN]
    assert set().union(*(stated for _, stated in known)) == set(LABELS)
    pairs = [(read(change(text)), stated) for text, stated in known]
    missed = [text for (text, _), (found, stated) in zip(known, pairs, strict=True) if found != stated]
    assert f1(pairs) >= 0.95, missed
    assert len(missed) <= 0.05 * len(known), missed


def test_foreign_wordings_read_the_same_in_one_report() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        chosen = [FOREIGN[i] for i in rng.choice(len(FOREIGN), 5, replace=False)]
        text = " ".join(sentence for sentence, _ in chosen)
        assert read(text) == frozenset().union(*(read(sentence) for sentence, _ in chosen))


def test_negation_ends_at_but() -> None:
    assert read("No effusion, pneumothorax or edema but mild cardiomegaly.") == {"cardiomegaly"}


def test_nothing_is_read_in_nothing() -> None:
    assert read("") == read(" . ") == read("The lungs are clear.") == frozenset()
