"""The questions in experiments/: each says what it asks and expects, and its report is what its records give."""

from pathlib import Path

import pytest

from r2g.compare import spec
from r2g.compare.analyse import compare
from r2g.compare.runs import find, group
from r2g.compare.tables import tables
from r2g.compare.write import files

_FOLDER = Path(__file__).resolve().parents[2] / "experiments"
_QUESTIONS = sorted(path.parent for path in _FOLDER.glob(f"*/{spec.FILE}"))


def test_no_question_escaped() -> None:
    assert sorted(path for path in _FOLDER.iterdir() if path.is_dir()) == _QUESTIONS
    index = (_FOLDER / "README.md").read_text()
    assert all(f"({question.name}/README.md)" in index for question in _QUESTIONS)


@pytest.mark.parametrize("question", _QUESTIONS, ids=lambda path: path.name)
def test_a_question_has_a_prediction_and_a_verdict(question: Path) -> None:
    wanted = spec.read(question / spec.FILE)
    assert wanted.runs == ("records/*",)
    text = (question / "README.md").read_text()
    assert text.index("## Prediction") < text.index("## Verdict")


@pytest.mark.parametrize("question", _QUESTIONS, ids=lambda path: path.name)
def test_a_report_is_what_its_records_give(question: Path) -> None:
    wanted = spec.read(question / spec.FILE)
    found = compare(question.name, wanted, group(find(wanted.runs, question), wanted.labels))
    made = files(found, tables(found), "")
    del made["report.html"]  # as large as plotly, and not in the repository
    assert {name: (question / name).read_text() for name in made} == made
