"""r2g.sync: what it would send, what it refuses, and W&B's own upload to a stand-in for the server."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import PartialState

from r2g import cloud, record
from r2g.core import filing, keys
from r2g.sync import offline
from r2g.sync.__main__ import main
from r2g.trackers.base import RunIdentity
from r2g.trackers.wandb import Mode, Wandb

ROWS = [
    {keys.STEP: s, keys.SAMPLES: 8 * s, keys.SECONDS: 0.5 * s, keys.TRAIN_LOSS: 3.0 / s} for s in (1, 2, 3)
]


def told(run: str, arm: str, text: bool = False) -> dict[str, Any]:
    """A finished record, as far as uploads look at it."""
    part = {"trainable": 10, "total": 20}
    budget = {**part, "trainable_percent": 50.0, "parts": {"projector": part}}
    track = {"kind": "wandb", "send_text": text, "send_images": False}
    return {
        **{"schema": record.SCHEMA, "status": "finished", "id": run, "arm": arm, "name": "tuning_modes"},
        "choices": {"tuning": "shallow", "projector": "linear"},
        "config": {"name": "tuning_modes", "seed": 0, "track": track},
        "protocol": {"name": "full", "hash": "bd76445533f2", "references": "0" * 8},
        "budget": budget,
        "convergence": {"area": 0.5, "steps_to_target": None},
        "scores": {"bleu_4": 0.2},
        "controls": {"shuffled": {"bleu_4": 0.1}},
    }


def tracked(outputs: Path, row: dict[str, Any], group: str | None = None) -> Path:
    """A run's folder: its record, and the W&B files that our tracker leaves."""
    folder = outputs / row["id"]
    folder.mkdir(parents=True)
    record.write_json(folder / "record.json", row)
    record.write_lines(folder / "curve.jsonl", ROWS)
    names = (row["id"], filing.title(row), group or row["arm"], filing.tags(row), filing.JOB_TYPE)
    text = row["config"]["track"]["send_text"]
    settings = Wandb(Mode.offline, "r2g", None, send_text=text, send_images=False, patience=60.0)
    run = settings.build(RunIdentity(*names, str(folder)))
    run.start()
    run.store_init_configuration(filing.settings(row))
    for point in ROWS:
        run.log(point, step=point[keys.STEP])
    run.log_text("reports", ["id", "report"], [["1", "zebra shaped opacity"]])
    run.summary(filing.summary(row))
    run.finish()
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs that can go, one whose file has another group, one with report text, one that isn't finished."""
    outputs = tmp_path_factory.mktemp("sweep") / "tuning_modes"
    for name, arm in (("aaa", "arm1"), ("bbb", "arm2")):
        tracked(outputs, told(name, arm))
    tracked(outputs, told("ccc", "arm2"), group="another")
    tracked(outputs, told("ddd", "arm3", text=True))
    (outputs / "eee.partial").mkdir()
    record.write_json(outputs / "eee.partial" / "record.json", {**told("eee", "arm3"), "status": "stopped"})
    yield outputs
    PartialState._reset_state()


@pytest.fixture
def copy(sweep: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sweep, tmp_path / "tuning_modes"))


@pytest.fixture
def table(capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command; its exit status and the words of each run's row."""

    def call(*words: str) -> tuple[int, dict[str, str]]:
        with pytest.raises(SystemExit) as end:
            main(words)
        rows = [
            line
            for line in capsys.readouterr().out.splitlines()
            if line[:3] in ["aaa", "bbb", "ccc", "ddd", "eee"]
        ]
        return int(end.value.code or 0), {line[:3]: line for line in rows}

    return call


def test_a_file_says_what_the_tracker_told(sweep: Path) -> None:
    (folder,) = offline.attempts(sweep / "aaa")
    found = offline.read(folder)
    assert (found.id, found.group, found.name) == ("aaa", "arm1", "tuning_modes-aaa")
    assert found.tags == (
        "name:tuning_modes",
        "projector:linear",
        "tuning:shallow",
        "protocol:full-bd76445533f2",
    )
    assert found.points == len(ROWS)
    assert "choices.tuning" in found.keys.config
    assert {"train/loss", "by_samples/train/loss", "samples"} <= found.keys.history
    assert {"test/bleu_4", "convergence/area", "control/shuffled/bleu_4"} <= found.keys.summary
    assert "convergence/steps_to_target" not in found.keys.summary
    assert not found.keys.lacking(filing.logged(told("aaa", "arm1"), ROWS))


def test_without_send_it_says_what_would_go_and_why_the_rest_would_not(
    sweep: Path, table: Any, monkeypatch
) -> None:
    monkeypatch.setattr(cloud, "upload", lambda *_: pytest.fail("something was sent"))
    status, rows = table(str(sweep))
    assert status == 1
    assert " ready" in rows["aaa"]
    assert " ready" in rows["bbb"]
    assert "its group is another, the record's arm2" in rows["ccc"]
    assert "track.send_text was on, 1 tables or pictures" in rows["ddd"]
    assert "the run is stopped" in rows["eee"]
    assert " ready" in table(str(sweep / "ddd"), "--with-text")[1]["ddd"]


def test_a_file_without_the_closing_figures_is_refused(copy: Path, table: Any) -> None:
    row = told("aaa", "arm1")
    row["scores"]["cider"] = 1.0
    record.write_json(copy / "aaa" / "record.json", row)
    status, rows = table(str(copy / "aaa"))
    assert status == 1
    assert "the file lacks summary test/cider" in rows["aaa"]


def test_a_broken_file_is_refused(copy: Path, table: Any) -> None:
    (file,) = (copy / "aaa").glob("wandb/offline-run-*/*.wandb")
    file.write_bytes(b"no such format")
    status, rows = table(str(copy / "aaa"))
    assert status == 1
    assert "can't be read" in rows["aaa"]


def go(server: Any, *words: str) -> subprocess.CompletedProcess[str]:
    return server.called_by("r2g.sync", *words, "--send")


def test_an_upload_keeps_groups_and_tags_and_is_not_repeated(copy: Path, wandb_server: Any) -> None:
    done = go(wandb_server, str(copy), "--project", "budgets")
    assert done.returncode == 1, done.stderr  # two were refused
    made = [given for kind, given in wandb_server.asked if kind == "UpsertBucket" and given["groupName"]]
    assert {(m["name"], m["groupName"]) for m in made} == {("aaa", "arm1"), ("bbb", "arm2")}
    assert all(set(m["tags"]) == set(filing.tags(told("aaa", "arm1"))) for m in made)
    assert {m["project"] for m in made} == {"budgets"}
    assert sum(" sent" in line for line in done.stdout.splitlines()) == 2
    assert not Path("wandb").exists()  # W&B's logs of an upload don't stay where it was asked for
    wandb_server.asked.clear()
    again = go(wandb_server, str(copy))
    assert sum("sent before" in line for line in again.stdout.splitlines()) == 2
    assert wandb_server.asked == []


def test_a_run_that_did_not_arrive_is_told(copy: Path, wandb_server: Any) -> None:
    wandb_server.refused.add("bbb")
    done = go(wandb_server, str(copy / "aaa"), str(copy / "bbb"))
    assert done.returncode == 1
    states = {line[:3]: line for line in done.stdout.splitlines()}
    assert " sent" in states["aaa"]
    assert " failed" in states["bbb"]


def test_nobody_logged_in_is_told_before_anything_is_sent(copy: Path, wandb_server: Any) -> None:
    del wandb_server.env["WANDB_API_KEY"]
    done = go(wandb_server, str(copy / "aaa"))
    assert done.returncode == 1
    assert "wandb login" in done.stderr
    assert "Traceback" not in done.stderr
    assert wandb_server.asked == []


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no run at"):
        main([str(tmp_path)])


def test_a_record_is_filed_under_names_that_wandb_takes() -> None:
    row = told("aaa", "arm1")
    row["config"]["name"] = 100 * "x"
    assert max(map(len, filing.tags(row))) == 64
    assert filing.name_tag(100 * "x") in filing.tags(row)
    assert json.loads(json.dumps(filing.settings(row)))["protocol"] == {
        "name": "full",
        "hash": "bd76445533f2",
    }
