"""Protocols: their rules on made-up reports, their stamps, and the command that scores any file under them."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r2g import protocol, score
from r2g.config.resolve import ConfigError
from r2g.config.schema import Cut, CutUnit, Protocol, RareWords
from r2g.core.registry import UnknownName
from r2g.core.slots import DATASETS
from r2g.core.types import Cleaner, Prediction, Section
from r2g.metrics.bleu import Bleu
from r2g.metrics.chexpert_f1 import ChexpertF1
from r2g.metrics.cider import Cider
from r2g.protocol import Judge, Material, Unavailable

RAW = "1. The heart is NORMAL: 1.5 cm. 2. No effusion."


def rules(name: str) -> Protocol:
    return protocol.read(name)[0]


def one(reference: str, hypothesis: str = "The heart <unk>") -> list[Prediction]:
    return [Prediction("a", reference, hypothesis)]


class Letters:
    """A tokenizer of one letter a token, with a start symbol unless told, which spells no umlaut."""

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[str]]]:
        start = ["<s>"] if add_special_tokens else []
        return {"input_ids": [start + ["<unk>" if c in "äöü" else c for c in text] for text in texts]}

    def decode(self, ids: list[str], skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        assert not skip_special_tokens
        assert not clean_up_tokenization_spaces
        return " " + "".join(ids)


@pytest.mark.parametrize(
    ("name", "cleaner", "cut", "threshold"),
    [
        ("full", None, None, None),
        ("r2gengpt_mimic", Cleaner.mimic_r2gengpt, (CutUnit.llm_tokens, 100), None),
        ("r2gengpt_iu", Cleaner.iu, (CutUnit.llm_tokens, 60), None),
        ("r2gen_mimic", Cleaner.mimic_r2gen, (CutUnit.words, 99), 10),
        ("r2gen_iu", Cleaner.iu, (CutUnit.words, 59), 3),
    ],
)
def test_published_lengths_thresholds_and_cleaners(
    name: str, cleaner: Cleaner | None, cut: tuple[CutUnit, int] | None, threshold: int | None
) -> None:
    found = rules(name)
    assert found.cleaner is cleaner
    assert found.cut == (None if cut is None else Cut(*cut))
    assert found.rare_words == (None if threshold is None else RareWords(threshold))


def test_every_protocol_has_its_row_above() -> None:
    assert protocol.names() == ["full", "r2gen_iu", "r2gen_mimic", "r2gengpt_iu", "r2gengpt_mimic"]


def test_full_changes_nothing() -> None:
    given = one(RAW)
    assert Judge(rules("full"), Material())(given) == given


def test_r2gen_cuts_at_its_words_and_hides_those_that_train_hardly_has() -> None:
    train = ["The Heart is normal. No effusion."] * 3 + ["Cardiomegaly."] * 2
    judge = Judge(rules("r2gen_iu"), Material(train=train))
    [found] = judge(one("The heart is NORMAL. Cardiomegaly: 1.5 cm. " + "Heart is heart is. " * 20))
    words = found.reference.split()
    assert words[:9] == ["the", "heart", "is", "normal", ".", "<unk>", "<unk>", "<unk>", "."]
    assert len(words) == 59
    assert found.hypothesis == "the heart <unk>"


@pytest.mark.parametrize(("name", "most"), [("r2gen_iu", 59), ("r2gen_mimic", 99)])
def test_a_reference_of_just_the_length_is_whole(name: str, most: int) -> None:
    judge = Judge(rules(name), Material(train=["lung . " * 500]))
    for words in (most - 1, most, most + 1):  # the cleaner adds the full stop
        [found] = judge(one(" ".join(["lung"] * (words - 1))))
        assert len(found.reference.split()) == min(words, most)
        assert found.reference.endswith(".") == (words <= most)


def test_the_vocabulary_counts_whole_cleaned_reports_of_train() -> None:
    seen = " ".join(["lung"] * 70 + ["late"])
    judge = Judge(rules("r2gen_iu"), Material(train=[seen + "."] * 3 + ["rare rare"]))
    assert judge(one("late rare lung"))[0].reference == "late <unk> lung ."


@pytest.mark.parametrize(("name", "most"), [("r2gengpt_iu", 60), ("r2gengpt_mimic", 100)])
def test_r2gengpt_decodes_the_first_tokens_and_drops_what_they_cannot_spell(name: str, most: int) -> None:
    judge = Judge(rules(name), Material(tokenizer=Letters()))
    [short, long] = judge([*one("Röntgen"), Prediction("b", "x" * 300, "y" * 300)])
    assert short.reference == "rntgen ."
    assert short.hypothesis == "The heart "
    assert long.reference == "x" * most
    assert long.hypothesis == "y" * 300


def test_a_real_tokenizer_cuts_too(llama: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama)
    judge = Judge(rules("r2gengpt_iu"), Material(tokenizer=tokenizer))
    [found] = judge(one("the heart is normal in size and zebra-like " * 20))
    assert len(tokenizer(found.reference, add_special_tokens=False)["input_ids"]) == 60
    assert ("the heart is normal in size and zebra-like " * 20).startswith(found.reference)
    assert judge(one("Heart normal. Lungs clear."))[0].reference == "heart normal . lungs clear ."


def test_what_a_protocol_lacks_is_told_and_not_made_up() -> None:
    with pytest.raises(Unavailable, match="no tokenizer"):
        Judge(rules("r2gengpt_iu"), Material())
    with pytest.raises(Unavailable, match="no annotation file"):
        Judge(rules("r2gen_iu"), Material())
    other = Material(cleaned=Cleaner.iu, train=["lung"], tokenizer=Letters())
    with pytest.raises(Unavailable, match="cleaned by iu, and no annotation"):
        Judge(rules("r2gen_mimic"), other)(one(RAW))
    with pytest.raises(Unavailable, match="1 of 1 ids are not in the annotation"):
        Judge(rules("r2gen_mimic"), replace(other, originals={"b": RAW}))(one(RAW))
    with pytest.raises(Unavailable, match="train's reports were cleaned by iu"):
        Judge(rules("r2gen_mimic"), replace(other, train_cleaned=Cleaner.iu))


def test_cleaned_references_are_left_or_made_anew_from_the_originals() -> None:
    cleaned = "the heart is normal : 15 cm . no effusion ."
    base = replace(rules("r2gen_mimic"), rare_words=None)
    same = Material(cleaned=Cleaner.mimic_r2gen)
    assert Judge(base, same)(one(cleaned))[0].reference == cleaned
    fresh = Material(cleaned=Cleaner.mimic_r2gengpt, originals={"a": RAW})
    assert Judge(base, fresh)(one(cleaned))[0].reference == "the heart is normal 15 cm . no effusion ."
    assert Judge(base, Material())(one(RAW))[0].reference == "the heart is normal 15 cm . no effusion ."


def test_the_hash_follows_every_rule_and_the_digest_the_references() -> None:
    full = rules("full")
    longer = replace(rules("r2gen_iu"), cut=Cut(CutUnit.words, 60))
    hashes = {protocol.stamp(p)["hash"] for p in [*map(rules, protocol.names()), longer]}
    assert len(hashes) == len(protocol.names()) + 1
    assert all(len(h) == 12 for h in hashes)
    judge = Judge(full, Material())
    first, again, other = (judge.stamp(judge(one(*t))) for t in [("a", "x"), ("a", "y"), ("b", "x")])
    assert first == again
    assert first["references"] != other["references"]
    assert first["name"] == "full"


def test_a_family_is_all_its_protocols_and_a_wrong_name_is_told() -> None:
    assert [p.name for p in protocol.read("r2gen")] == ["r2gen_iu", "r2gen_mimic"]
    with pytest.raises(UnknownName, match="did you mean 'r2gengpt'"):
        protocol.read("r2gengtp")


def test_a_run_whose_data_is_cleaned_otherwise_is_refused(configured: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="cleans by mimic_r2gen, but data.cleaner is iu"):
        configured("data=annotation", "data.cleaner=iu", "score/protocol=r2gen_mimic")
    assert (
        configured("data=annotation", "data.cleaner=iu", "score/protocol=r2gen_iu").score.protocol.name
        == "r2gen_iu"
    )
    with pytest.raises(ConfigError, match=r"score.protocol.cut: length must be at least 1, got 0"):
        configured("score/protocol=r2gen_iu", "score.protocol.cut.length=0")


def test_a_run_on_another_section_or_other_views_is_refused(configured: Callable[..., Any]) -> None:
    said = r"(?s)about the findings, the data holds the impression.*data\.section.*2 film\(s\) a study.* up to 1; .*"
    with pytest.raises(ConfigError, match=said):
        configured("data=iu_xray", "data.section=impression", "data.max_views=1", "score/protocol=r2gen_iu")
    with pytest.raises(ConfigError, match="about findings and impression, the data holds the findings"):
        configured("data=mimic_cxr", "score/protocol=r2gengpt_mimic")
    freed = ["score.protocol.section=as_given", "score.protocol.views=as_given"]
    own = configured("data=mimic_cxr", "data.max_views=3", "score/protocol=r2gengpt_mimic", *freed)
    assert protocol.stamp(own.score.protocol)["hash"] != protocol.stamp(rules("r2gengpt_mimic"))["hash"]
    configured("data=mimic_cxr", "data.max_views=3", "data.section=both")


def test_a_run_whose_metrics_read_labels_otherwise_is_refused(configured: Callable[..., Any]) -> None:
    chosen = ["data=iu_xray", "score=clinical", "train.select=[{score: loss, weight: -1.0}]"]
    wanted = [*chosen, "score/protocol=r2gen_iu"]
    with pytest.raises(ConfigError, match=r"metrics\.chexpert_f1.*read by chexpert, the metric's by rules"):
        configured(*wanted)
    configured(*wanted, "score.protocol.labels.labeller=rules")
    configured(*wanted, "score.protocol.labels=null")
    configured(*chosen, "score/protocol=r2gengpt_iu")


@pytest.mark.parametrize(
    ("name", "section", "films", "misfits", "unknown"),
    [
        ("r2gen_iu", Section.findings, 2, set(), []),
        ("r2gen_iu", Section.as_given, None, set(), ["section", "views"]),
        ("r2gen_iu", Section.both, 3, {"section", "views"}, []),
        ("r2gengpt_mimic", Section.findings, None, {"section"}, ["views"]),
        ("full", Section.impression, 7, set(), []),
        ("full", Section.as_given, None, set(), []),
    ],
)
def test_what_data_has_otherwise_and_what_nobody_says(
    name: str, section: Section, films: int | None, misfits: set[str], unknown: list[str]
) -> None:
    assert set(rules(name).misfits(section, films)) == misfits
    assert rules(name).unknown(section, films) == unknown
    if misfits:
        with pytest.raises(Unavailable, match="it is about"):
            Judge(rules(name), Material(section=section, films=films))


def test_a_metric_of_other_labels_is_absent_under_that_protocol_alone() -> None:
    given = [Prediction("a", "Small effusion.", "Effusion."), Prediction("b", "Clear.", "Edema.")]
    material = Material(train=["small effusion . clear ."] * 3)
    found = {
        name: score.score(given, rules(name), material, {"chexpert_f1": ChexpertF1(), "bleu": Bleu(order=1)})
        for name in ("full", "r2gen_iu")
    }
    assert "read by chexpert, the metric's by rules" in found["r2gen_iu"].absent["chexpert_f1"]
    assert set(found["r2gen_iu"].scores) == {"bleu_1"}
    assert found["full"].scores["chexpert14_f1_micro_uncertain_negative"] > 0
    assert found["full"].unknown == []
    assert found["r2gen_iu"].unknown == ["section", "views"]


def test_scores_move_as_computed_by_hand() -> None:
    """The check captions with the second reference word hidden: r2gen's 59 words leave them whole otherwise."""
    wanted = [
        "this is one reference sentence for sentence1",
        "this is the second reference sentence for sentence2",
    ]
    written = [
        "this is the model generated sentence1 which seems good enough",
        "this is sentence2 which has been generated by your model",
    ]
    given = [Prediction(str(i), r, h) for i, (r, h) in enumerate(zip(wanted, written, strict=True))]
    train = [text for text in wanted for _ in range(3)] + written * 3
    found = score.score(
        given, rules("r2gen_iu"), Material(train=train), {"bleu": Bleu(order=4), "cider": Cider()}
    )
    judged = [replace(p, reference=p.reference + " .") for p in given]
    assert found.scores == Bleu(order=4).score(judged).corpus | Cider().score(judged).corpus
    assert found.changed == 2


@pytest.fixture
def files(tmp_path: Path, llama: Path) -> dict[str, Path]:
    """A CSV with a line break and a comma inside, the same as JSONL, an annotation, and a tokenizer."""
    rows = [
        {
            "id": f"s{i}",
            "reference": f"Heart normal,\nlung {'clear ' * i}{i}.",
            "hypothesis": "heart normal . lung clear",
        }
        for i in range(4)
    ]
    with (tmp_path / "p.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["hypothesis", "id", "reference", "more"], restval="x")
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    entries = [{"id": row["id"], "report": row["reference"]} for row in rows]
    (tmp_path / "ann.json").write_text(json.dumps({"train": entries * 4, "val": [], "test": entries}))
    return {name: tmp_path / name for name in ("p.csv", "p.jsonl", "ann.json")} | {"llama": llama}


def test_csv_and_jsonl_are_read_alike(files: dict[str, Path]) -> None:
    assert score.read_predictions(files["p.csv"]) == score.read_predictions(files["p.jsonl"])


def test_the_record_beside_predictions_tells_of_their_data(files: dict[str, Path]) -> None:
    folder = files["p.jsonl"].parent
    files["p.jsonl"].rename(folder / "predictions.jsonl")
    assert score.read_predictions(folder)[1] == {}
    told = {"kind": "iu_xray", "cleaner": "iu", "section": "findings", "max_views": 2}
    (folder / "record.json").write_text(json.dumps({"config": {"data": told}}))
    assert score.read_predictions(folder)[1] == told


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.csv",
            "id,reference\n1,x\n1,y\n",
            ["no text in 'hypothesis': 2: row 1, row 2", "ids that occur twice: 1: 1"],
        ),
        ("a.jsonl", "", ["no row"]),
        ("a.jsonl", "[1]\n", ["no text in 'id': 1: row 1"]),
        ("a.jsonl", "{\n", ["not one JSON object a line"]),
        ("a.txt", "x", ["must end with .csv or .jsonl"]),
    ],
)
def test_all_mistakes_of_a_file_are_told(name: str, content: str, said: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(score.BadPredictions) as caught:
        score.read_predictions(tmp_path / name)
    assert all(words in str(caught.value) for words in said)


def _call(*arguments: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "r2g.score", *map(str, arguments), "--score", "quick"]
    return subprocess.run(call, capture_output=True, text=True, check=False, timeout=170)


def test_the_command_scores_under_all_protocols_and_says_how_far_numbers_move(files: dict[str, Path]) -> None:
    done = _call(files["p.csv"], "--annotation", files["ann.json"], "--tokenizer", files["llama"])
    assert done.returncode == 0, done.stderr
    for name in protocol.names():
        assert f"{name} {protocol.stamp(rules(name))['hash']}" in done.stdout
    assert done.stdout.count("moves by") == 4
    assert "unavailable" not in done.stdout
    assert "section and views not known: r2gen_iu" in done.stdout


def test_the_command_marks_what_it_cannot_have(files: dict[str, Path]) -> None:
    done = _call(files["p.jsonl"], "--protocol", "r2gen", "--json")
    assert done.returncode == 1
    full, *others = json.loads(done.stdout)
    assert full["scores"]["bleu_1"] > 0
    assert full["stamp"]["references"]
    assert [row["stamp"]["name"] for row in others] == ["r2gen_iu", "r2gen_mimic"]
    assert all("no annotation file" in row["unavailable"] and not row["scores"] for row in others)
    wrong = _call(files["p.jsonl"], "--protocol", "r2gne")
    assert wrong.returncode == 1
    assert "did you mean" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def _said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[bool, str]:
    """Whether the command, run in this process, ended well, and what it printed."""
    monkeypatch.setattr(sys, "argv", ["r2g.score", *map(str, arguments), "--score", "quick"])
    try:
        score.main()
    except SystemExit:
        return False, capsys.readouterr().out
    return True, capsys.readouterr().out


def test_what_a_user_says_of_the_data_is_checked(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [files["p.csv"], "--annotation", files["ann.json"], "--protocol", "r2gen_iu"]
    well, said = _said(monkeypatch, capsys, *words, "--section", "both", "--films", 1)
    assert not well
    assert "unavailable: r2gen_iu: it is about the findings, the data holds findings and impression; " in said
    well, said = _said(monkeypatch, capsys, *words, "--section", "findings")
    assert well
    assert "\nviews not known: r2gen_iu" in said


def test_phantoms_need_no_file_for_the_vocabulary(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A record beside predictions says how its phantoms were made, so their reports are written anew."""
    data = {"kind": "phantom", "train": 40, "val": 2, "test": 5, "size": 32, "max_views": 1, "data_seed": 3}
    settings = {name: value for name, value in data.items() if name != "kind"}
    splits = DATASETS.get("phantom")(**settings).originals()
    rows = [{"id": name, "reference": text, "hypothesis": text} for name, text in splits["test"].items()]
    lines = tmp_path / "predictions.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "record.json").write_text(json.dumps({"config": {"data": data}}))
    well, said = _said(monkeypatch, capsys, tmp_path, "--protocol", "r2gen", "--json")
    assert well
    _, iu, mimic = json.loads(said)
    assert iu["unavailable"] == "it is about 2 film(s) a study, the data has up to 1"
    assert mimic["scores"]["bleu_1"] > 0
    assert mimic["unknown"] == ["section"]
    lines.write_text(json.dumps(rows[0] | {"reference": "Other words."}) + "\n")
    well, said = _said(monkeypatch, capsys, tmp_path, "--protocol", "r2gen_mimic")
    assert not well
    assert "another version wrote them" in caplog.text
    assert "unavailable: r2gen_mimic: its vocabulary" in said
