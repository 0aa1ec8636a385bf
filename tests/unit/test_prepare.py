"""Annotation files from folders laid out as the originals are; all reports here are invented."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from r2g.core.slots import DATASETS
from r2g.datasets import base
from r2g.datasets.base import Cleaner
from r2g.prepare.__main__ import main
from r2g.prepare.openi import split_of
from r2g.prepare.sections import Section, extract, sections

USUAL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old with a cough  // findings?

 COMPARISON:  ___ at 10:30

 FINDINGS:

 The lungs are clear.  No effusion at 3:1 ratio.
 There is a note: the heart is normal.

 IMPRESSION:

 1. No acute process.
 2. Unchanged.
"""


def test_a_usual_report() -> None:
    assert sections(USUAL) == {
        "findings": "The lungs are clear. No effusion at 3:1 ratio. There is a note: the heart is normal.",
        "impression": "1. No acute process. 2. Unchanged.",
    }


@pytest.mark.parametrize(
    ("report", "findings", "impression"),
    [
        ("Findings: Clear.\nImpression: Normal.", "Clear.", "Normal."),
        ("findings: clear.\nimpression: normal.", "clear.", "normal."),
        ("FINDINGS:Clear.\r\nIMPRESSION :\r\nNormal.", "Clear.", "Normal."),
        ("FINDINGS\n Clear.\n\nIMPRESSION\n Normal.", "Clear.", "Normal."),
        ("FINAL REPORT FINDINGS: Clear. IMPRESSION: Normal.", "Clear.", "Normal."),
        ("Indication: Cough. Findings: Clear. Impression: Normal.", "Clear.", "Normal."),
        ("INDICATION: cough FINDINGS: Clear IMPRESSION: Normal", "Clear", "Normal"),
        ("FINDINGS AND IMPRESSION: All clear.", "All clear.", "All clear."),
        ("Findings/Impression:\nAll clear.", "All clear.", "All clear."),
        ("IMPRESSION AND FINDINGS:\nAll clear.", "All clear.", "All clear."),
        ("CHEST PA AND LATERAL FINDINGS:\n Clear.", "Clear.", None),
        ("CONCLUSION: Normal.", None, "Normal."),
        ("IMPRESSION AND RECOMMENDATIONS: Normal. Repeat.", None, "Normal. Repeat."),
        ("FINDINGS: Clear.\nIMPRESSION:  \n", "Clear.", None),
        (
            "FINDINGS:\n\nLUNGS: Clear.\nHEART AND MEDIASTINUM: Big.",
            "LUNGS: Clear. HEART AND MEDIASTINUM: Big.",
            None,
        ),
        ("FINDINGS: Clear.\nNOTIFICATION: Dr. ___ was told.", "Clear.", None),
        ("FINDINGS: Clear.\nRECOMMENDATION(S): Repeat.", "Clear.", None),
        ("IMPRESSION: Normal.\n\nCHEST TWO VIEWS:\nOld words.", None, "Normal."),
        ("FINDINGS: Compared to the prior\n study: less fluid with unchanged\n findings.", "*", None),
        ("FINDINGS: First.\nIMPRESSION: One.\nFINDINGS: Second.\nIMPRESSION: One.", "First. Second.", "One."),
        ("WET READ: Early.\nIMPRESSION: Early word.\n FINAL REPORT\nIMPRESSION: Normal.", None, "Normal."),
        ("PROVISIONAL FINDINGS IMPRESSION (PFI):  Early.\nIMPRESSION: Normal.", None, "Normal."),
        ("Chest film.  No heading at all; the findings are normal.", None, None),
        ("COMPARISON: None.\n\nThe lungs are clear.", None, None),
        ("", None, None),
    ],
)
def test_headings_as_people_write_them(report: str, findings: str | None, impression: str | None) -> None:
    whole = "Compared to the prior study: less fluid with unchanged findings."
    expected = {"findings": whole if findings == "*" else findings, "impression": impression}
    assert sections(report) == {kind: text for kind, text in expected.items() if text is not None}


def test_what_is_taken() -> None:
    assert extract(USUAL, Section.impression) == "1. No acute process. 2. Unchanged."
    assert extract("FINDINGS: A.\nIMPRESSION: B.", Section.both) == "A. B."
    assert extract("FINDINGS: A.", Section.both) is None
    assert extract("FINDINGS AND IMPRESSION: A.", Section.both) == "A."


class Mimic:
    """A folder as MIMIC-CXR-JPG's, with a study at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.metadata: list[dict[str, str]] = []
        self.splits: list[dict[str, str]] = []

    def study(self, subject: str, study: str, split: str, report: str | None, views: dict[str, str]) -> None:
        place = f"files/p{subject[:2]}/p{subject}"
        (self.root / "reports" / place).mkdir(parents=True, exist_ok=True)
        (self.root / "images" / place / f"s{study}").mkdir(parents=True, exist_ok=True)
        if report is not None:
            (self.root / "reports" / place / f"s{study}.txt").write_text(report)
        for film, view in views.items():
            (self.root / "images" / place / f"s{study}/{film}.jpg").touch()
            names = {"dicom_id": film, "subject_id": subject, "study_id": study}
            self.metadata.append({**names, "ViewPosition": view, "Rows": "3056"})
            self.splits.append({**names, "split": split})

    def command(self, *more: str) -> list[str]:
        for name, rows in (("metadata", self.metadata), ("split", self.splits)):
            with gzip.open(self.root / f"{name}.csv.gz", "wt", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        places = [f"--{name}={self.root / name}" for name in ("reports", "images")]
        tables = [f"--{name}={self.root / name}.csv.gz" for name in ("metadata", "split")]
        return ["mimic_cxr", *places, *tables, f"--out={self.root / 'out/annotation.json'}", *more]

    def run(self, *more: str) -> dict[str, Any]:
        main(self.command(*more))
        return json.loads((self.root / "out/annotation.json").read_text())


@pytest.fixture
def mimic(tmp_path: Path) -> Mimic:
    made = Mimic(tmp_path)
    made.study("10000032", "501", "train", USUAL, {"lat": "LATERAL", "ap": "AP", "pa": "PA", "none": ""})
    made.study("10000032", "502", "train", "IMPRESSION: Normal.", {"f502": "PA"})
    made.study("11000001", "503", "validate", "FINDINGS: Val.", {"f503": "AP"})
    made.study("19000001", "504", "test", "FINDINGS: Test.", {"f504": "AP"})
    made.study("19000002", "505", "test", None, {"f505": "AP"})
    made.study("19000003", "506", "test", "FINDINGS: Side.", {"f506": "LL"})
    made.study("19000004", "507", "test", "FINDINGS: Lost.", {"f507": "PA"})
    (tmp_path / "images/files/p19/p19000004/s507/f507.jpg").unlink()
    return made


def test_mimic_by_study(mimic: Mimic, capsys: pytest.CaptureFixture[str]) -> None:
    made = mimic.run()
    assert {split: [entry["id"] for entry in entries] for split, entries in made.items()} == {
        "train": ["s501"],
        "val": ["s503"],
        "test": ["s504"],
    }
    entry = made["train"][0]
    folder = "p10/p10000032/s501"
    assert entry["image_path"] == [f"{folder}/pa.jpg", f"{folder}/ap.jpg"]
    assert entry["report"] == sections(USUAL)["findings"]
    assert entry["patient"] == "p10000032"
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "train 1 2 1 val 1 1 1 test 1 1 1",
        "films of other views 2",
        "films without a file 1",
        "films without a view position 1",
        "studies without a film 1",
        "studies without a film of these views 1",
        "studies without a report file 1",
        "studies without the section 1",
    ):
        assert words in shown


def test_all_views_put_the_frontal_first(mimic: Mimic) -> None:
    entries = mimic.run("--views=all")
    names = [Path(path).stem for path in entries["train"][0]["image_path"]]
    assert names == ["pa", "ap", "lat", "none"]
    assert [entry["id"] for entry in entries["test"]] == ["s504", "s506"]


@pytest.mark.parametrize(
    ("views", "train", "test"),
    [("frontal", ["pa", "ap"], ["f504"]), ("pa", ["pa"], ["f516"]), ("ap", ["ap"], ["f504"])]
    + [("lateral", ["lat"], ["f506"])],
)
def test_views_can_be_chosen(mimic: Mimic, views: str, train: list[str], test: list[str]) -> None:
    mimic.study("11000001", "513", "validate", "FINDINGS: V.", {"f513": "PA", "g513": "LL"})
    if views == "pa":
        mimic.study("19000009", "516", "test", "FINDINGS: P.", {"f516": "PA"})
    entries = mimic.run(f"--views={views}")
    assert [Path(path).stem for path in entries["train"][0]["image_path"]] == train
    assert [Path(path).stem for path in entries["test"][0]["image_path"]] == test


def test_sections_can_be_chosen(mimic: Mimic, capsys: pytest.CaptureFixture[str]) -> None:
    mimic.study("11000001", "513", "validate", "IMPRESSION: V.", {"f513": "AP"})
    mimic.study("19000001", "514", "test", "FINDINGS: F.\nIMPRESSION: T.", {"f514": "AP"})
    assert [entry["id"] for entry in mimic.run("--section=impression")["train"]] == ["s501", "s502"]
    with pytest.raises(SystemExit, match="no studies in val"):
        mimic.run("--section=both")
    assert "studies without both sections" in capsys.readouterr().out


def test_what_comes_out_can_be_loaded(
    mimic: Mimic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mimic.run()
    hint = capsys.readouterr().out.strip().splitlines()[-1]
    assert hint.startswith(
        "To use it: python -m r2g.run data=mimic_cxr data.section=findings data.annotation="
    )
    paths = dict(word.removeprefix("data.").split("=") for word in hint.split()[-2:])
    settings = {
        "root": None,
        "section": base.Section.findings,
        "cleaner": Cleaner.mimic_r2gengpt,
        "max_views": 2,
        "check_files": True,
    }
    files = {name: Path(path) for name, path in paths.items()}
    data = DATASETS.get("mimic_cxr")(**settings, **files).load(tmp_path, 0)
    assert data["train"][0]["patient"] == "p10000032"
    assert data["val"][0]["report"] == "val ."


def test_folders_without_files_above_them_do_too(mimic: Mimic) -> None:
    command = [part.replace("/reports", "/reports/files") for part in mimic.command()]
    main([part.replace("/images", "/images/files") for part in command])
    assert (mimic.root / "out/annotation.json").is_file()


def test_tables_that_are_no_tables(mimic: Mimic) -> None:
    mimic.splits[0]["split"] = "valid"
    with pytest.raises(SystemExit, match=r"unknown split 'valid' \(there are train, validate, test\)"):
        mimic.run()
    mimic.splits[0]["split"] = "test"
    with pytest.raises(SystemExit, match="study 501 is in two splits"):
        mimic.run()
    mimic.splits = [{"dicom_id": "x"}]
    with pytest.raises(SystemExit, match="has no column study_id, split"):
        mimic.run()


def test_wrong_folders_say_what_was_looked_for(mimic: Mimic, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds neither p10, p11, \.\.\. nor files/p10"):
        main([*mimic.command(), f"--reports={tmp_path}"])
    with pytest.raises(SystemExit, match=r"gone\.csv"):
        main([*mimic.command(), f"--metadata={tmp_path / 'gone.csv'}"])


def test_a_report_in_another_encoding_is_counted(mimic: Mimic, capsys: pytest.CaptureFixture[str]) -> None:
    (mimic.root / "reports/files/p10/p10000032/s502.txt").write_bytes("FINDINGS: na\xefve".encode("latin-1"))
    mimic.run()
    assert "studies whose report is not UTF-8" in capsys.readouterr().out


def xml(uid: str, findings: str, impression: str, films: list[str]) -> str:
    parts = {"FINDINGS": findings, "IMPRESSION": impression, "INDICATION": "Cough"}
    texts = "".join(f'<AbstractText Label="{k}">{v}</AbstractText>' for k, v in parts.items())
    images = "".join(f'<parentImage id="{film}"><caption>x</caption></parentImage>' for film in films)
    return (
        f'<?xml version="1.0"?><eCitation><uId id="{uid}"/><Abstract>{texts}</Abstract>{images}</eCitation>'
    )


def uids(split: str, number: int) -> list[str]:
    return [uid for uid in (f"CXR{i}" for i in range(400)) if split_of(uid, 0) == split][:number]


@pytest.fixture
def openi(tmp_path: Path) -> Path:
    (tmp_path / "reports").mkdir()
    (tmp_path / "images").mkdir()
    for split in ("train", "val", "test"):
        for uid in uids(split, 2):
            films = [f"{uid}_IM-1-{view}" for view in ("1001", "2001")]
            (tmp_path / "reports" / f"{uid}.xml").write_text(xml(uid, f"Clear\n  {split}.", "Normal.", films))
            for film in films:
                (tmp_path / "images" / f"{film}.png").touch()
    (tmp_path / "reports/a.xml").write_text(xml("CXRa", "", "Normal.", [f"{uids('val', 1)[0]}_IM-1-1001"]))
    (tmp_path / "reports/b.xml").write_text(xml("CXRb", "Clear.", "Normal.", ["CXRb_gone"]))
    (tmp_path / "reports/c.xml").write_text("<eCitation>")
    (tmp_path / "reports/d.xml").write_text("<eCitation/>")
    return tmp_path


def archive(folder: Path) -> Path:
    with tarfile.open(folder / "reports.tgz", "w:gz") as stream:
        for file in (folder / "reports").iterdir():
            info = tarfile.TarInfo(f"ecgen-radiology/{file.name}")
            info.size = file.stat().st_size
            stream.addfile(info, io.BytesIO(file.read_bytes()))
    return folder / "reports.tgz"


@pytest.mark.parametrize("packed", [False, True])
def test_openi(openi: Path, packed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    reports = archive(openi) if packed else openi / "reports"
    out = openi / "annotation.json"
    main(["openi", f"--reports={reports}", f"--images={openi / 'images'}", f"--out={out}"])
    made = json.loads(out.read_text())
    assert {split: len(entries) for split, entries in made.items()} == {"train": 2, "val": 2, "test": 2}
    entry = made["val"][0]
    assert entry["id"] == entry["patient"] == sorted(uids("val", 2))[0]
    assert entry["report"] == "Clear val."
    assert entry["image_path"] == [f"{entry['id']}_IM-1-1001.png", f"{entry['id']}_IM-1-2001.png"]
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "films without a file 1",
        "reports that are not XML 1",
        "studies without a film 1",
        "studies without a uid 1",
        "studies without the section 1",
        "To use it: python -m r2g.run data=iu_xray",
    ):
        assert words in shown


def test_openis_split_is_70_10_20_and_follows_the_seed() -> None:
    names = [f"CXR{i}" for i in range(4000)]
    counts = Counter(split_of(name, 0) for name in names)
    assert counts["train"] == pytest.approx(2800, abs=100)
    assert counts["val"] == pytest.approx(400, abs=60)
    assert [split_of(name, 0) for name in names] != [split_of(name, 1) for name in names]


def test_openi_without_films_or_reports(openi: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for reports, images, said in (
        ("reports", "empty", "holds no films"),
        ("empty", "images", "holds no XML"),
    ):
        with pytest.raises(SystemExit, match=said):
            main(
                [
                    "openi",
                    f"--reports={openi / reports}",
                    f"--images={openi / images}",
                    f"--out={openi / 'x'}",
                ]
            )
    assert not (openi / "x").exists()


def test_help_is_light() -> None:
    code = (
        "import sys; from r2g.prepare.__main__ import main\n"
        "try: main(['openi', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'datasets', 'numpy', 'hydra'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--seed" in done.stdout


def real_reports() -> Path | None:
    """The XMLs that the package torchxrayvision ships, found without importing it."""
    for folder in [*sys.path, os.environ.get("R2G_OPENI_REPORTS", "")]:
        place = Path(folder)
        for file in (place, place / "torchxrayvision/data/NLMCXR_reports.tgz"):
            if file.name == "NLMCXR_reports.tgz" and file.is_file():
                return file
    return None


def test_the_real_openi_reports(tmp_path: Path) -> None:
    reports = real_reports()
    if reports is None:
        pytest.skip("no NLMCXR_reports.tgz: install torchxrayvision, or set R2G_OPENI_REPORTS to the file")
    (tmp_path / "films").mkdir()
    with tarfile.open(reports) as stream:
        for member in (member for member in stream if member.name.endswith(".xml")):
            content = stream.extractfile(member)
            assert content is not None
            for part in content.read().decode().split('<parentImage id="')[1:]:
                (tmp_path / "films" / f"{part.split(chr(34))[0]}.png").touch()
    out = tmp_path / "annotation.json"
    main(["openi", f"--reports={reports}", f"--images={tmp_path / 'films'}", f"--out={out}"])
    made = json.loads(out.read_text())
    assert {split: len(entries) for split, entries in made.items()} == {
        "train": 2340,
        "val": 312,
        "test": 685,
    }
    entries = [entry for split in made.values() for entry in split]
    assert max(len(entry["image_path"]) for entry in entries) == 5
    assert all("\n" not in entry["report"] for entry in entries)
    settings = {
        "root": None,
        "section": base.Section.findings,
        "cleaner": Cleaner.iu,
        "max_views": 2,
        "check_files": True,
    }
    data = DATASETS.get("iu_xray")(annotation=out, images=tmp_path / "films", **settings).load(tmp_path, 0)
    assert len(data["test"]) == 685
