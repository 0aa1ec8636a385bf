"""r2g.dashboard: built offline, every name in it known, sent only when asked for, to a stand-in for the server."""

import builtins
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r2g import record
from r2g.core import keys
from r2g.dashboard import build, refs
from r2g.dashboard.__main__ import main

HERE = ["--entity", "me", "--project", "r2g"]


@pytest.fixture
def spec() -> dict[str, Any]:
    return build.spec(
        build.build(build.Wanted("me", "r2g", ("bleu_4", "cider"), "tuning_modes", ("arm1", "arm2")))
    )


def views(spec: Any, kind: str) -> list[dict[str, Any]]:
    return [node["config"] for node in refs._nodes(spec) if node.get("viewType") == kind]


def test_it_is_built_without_network_or_key(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    main([*HERE, "--spec", str(tmp_path / "spec.json")])
    assert "Nothing was sent" in capsys.readouterr().out
    told = json.loads((tmp_path / "spec.json").read_text())
    assert told["sent"] == {}
    assert told["workspace"]["entity"] == "me"
    assert told["report"]["project"] == {"name": "r2g", "entityName": "me"}


@pytest.mark.parametrize("what", ["workspace", "report"])
def test_budgets_are_compared(spec: dict[str, Any], what: str) -> None:
    scatters = {c["yAxis"]: c for c in views(spec[what], "Scatter Plot")}
    for name in ("test/bleu_4", "test/cider", keys.AREA):
        assert scatters[f"summary:{name}"]["xAxis"] == f"summary:{keys.BUDGET_TRAINABLE}"
        assert scatters[f"summary:{name}"]["xAxisLogScale"] is True
    lines = views(spec[what], "Run History Line Plot")
    by_arm = [c for c in lines if c["groupBy"] == "group" and c["groupAgg"] == "mean"]
    assert {c["xAxis"] for c in by_arm} == {keys.STEP, keys.SAMPLES}
    (parallel,) = views(spec[what], "Parallel Coordinates Plot")
    accessors = [column["accessor"] for column in parallel["columns"]]
    assert accessors[:3] == [
        "config:choices.value.tuning",
        "config:choices.value.projector",
        "summary:budget/trainable",
    ]
    assert len(views(spec[what], "Run Comparer")) == 1


def test_runs_are_chosen_by_tag_and_group(spec: dict[str, Any]) -> None:
    runsets = [node for node in refs._nodes(spec) if "runFeed" in node]
    for runset in runsets:
        filters = [(f["key"]["name"], f["op"], f["value"]) for f in runset["filters"]["filters"]]
        assert filters == [("tags", "IN", ["name:tuning_modes"]), ("group", "IN", ["arm1", "arm2"])]


def test_every_name_of_the_spec_is_found(spec: dict[str, Any]) -> None:
    """Whatever in the serialized spec looks like a key of ours is among the references."""
    found = refs.references(spec)
    text = json.dumps([node.get("config", node.get("runFeed")) for node in refs._nodes(spec)])
    for place, prefixes in (
        ("summary", ("test/", "budget/", "convergence/")),
        ("history", ("train/", "val/", "by_")),
    ):
        quoted = {word.partition(":")[2] or word for word in text.split('"') if ":" not in word[:1]}
        ours = {word for word in quoted if word.startswith(prefixes) and " " not in word}
        assert ours == {name for name in getattr(found, place) if name.startswith(prefixes)}
    assert found.config == {"choices.tuning", "choices.projector"}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Bar Chart", {}),
        ("Scatter Plot", {"xAxis": "run:colour"}),
        ("Scatter Plot", {"xAxis": "config:choices.tuning"}),
        ("Run History Line Plot", {"xAxis": "step", "metrics": [], "groupBy": "colour"}),
    ],
)
def test_a_panel_that_cannot_be_checked_is_refused(kind: str, config: dict[str, Any]) -> None:
    with pytest.raises(refs.SpecError):
        refs.references({"viewType": kind, "config": config})


def made(folder: Path, scores: dict[str, float], how: str = "solo", device: str = "A GPU") -> None:
    part = {"trainable": 10, "total": 20}
    row = {
        **{"schema": record.SCHEMA, "status": "finished", "id": "aaa", "arm": "arm1", "name": "n"},
        "choices": {"tuning": "shallow", "projector": "linear"},
        "config": {"name": "n", "train": {"precision": "fp32"}},
        "device": {"type": "cuda", "name": device},
        "protocol": {"name": "full", "hash": "0" * 12},
        "budget": {**part, "trainable_percent": 50.0, "parts": {"projector": part}},
        "convergence": {"area": 0.5, "best_step": 3},
        "scores": scores,
        "controls": {},
        "ran": {"how": how},
        "reuse": {"what": "none"},
    }
    folder.mkdir(parents=True)
    record.write_json(folder / "record.json", row)
    axes = {keys.STEP: 1, keys.SAMPLES: 8, keys.SECONDS: 0.5}
    record.write_lines(
        folder / "curve.jsonl", [{**axes, keys.TRAIN_LOSS: 1.0}, {**axes, keys.VAL_SELECT: 0.1}]
    )


def test_panels_are_held_against_records(tmp_path: Path, capsys) -> None:
    made(tmp_path / "runs" / "one", {"bleu_4": 0.1, "meteor": 0.2})
    call = [*HERE, "--runs", str(tmp_path / "runs"), "--spec", str(tmp_path / "spec.json")]
    main(call)
    assert "logged by 1 runs" in capsys.readouterr().out
    drawn = refs.references(json.loads((tmp_path / "spec.json").read_text())).summary
    assert {name for name in drawn if name.startswith("test/")} == {"test/bleu_4"}
    main([*call, "--metric", "meteor"])
    with pytest.raises(SystemExit, match="did you mean 'meteor'"):
        main([*call, "--metric", "metoer"])
    curve = tmp_path / "runs" / "one" / "curve.jsonl"
    curve.write_text(curve.read_text().splitlines()[0] + "\n")
    with pytest.raises(SystemExit, match="a run lacks history val/select"):
        main(call)


@pytest.mark.parametrize(
    ("second", "drawn"), [(("solo", "A GPU"), True), (("gang", "A GPU"), False), (("solo", "Another"), False)]
)
def test_seconds_are_drawn_only_where_they_compare(
    tmp_path: Path, second: tuple[str, str], drawn: bool
) -> None:
    for name, ran in (("one", ("solo", "A GPU")), ("two", second)):
        made(tmp_path / "runs" / name, {"bleu_4": 0.1}, *ran)
    main([*HERE, "--runs", str(tmp_path / "runs"), "--spec", str(tmp_path / "spec.json")])
    asked = refs.references(json.loads((tmp_path / "spec.json").read_text())).history
    assert (keys.by(keys.SECONDS, keys.TRAIN_LOSS) in asked) is drawn


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("wandb_workspaces", "r2g.dashboard.build"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("wandb_workspaces"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SystemExit, match=r"pip install -e '.\[dashboard\]'"):
        main(HERE)


def test_a_file_that_is_no_spec_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"mine": 1}')
    with pytest.raises(SystemExit, match="is no spec"):
        main([*HERE, "--spec", str(tmp_path / "notes.json")])
    assert (tmp_path / "notes.json").read_text() == '{"mine": 1}'


def go(server: Any, path: Path, project: str = "r2g") -> subprocess.CompletedProcess[str]:
    there = ("--entity", "me", "--project", project)
    return server.called_by("r2g.dashboard", *there, "--spec", str(path), "--send")


def test_it_is_sent_when_asked_for_and_a_second_time_changes_what_is_there(
    tmp_path: Path, wandb_server: Any
) -> None:
    path = tmp_path / "spec.json"
    first = go(wandb_server, path)
    assert first.returncode == 0, first.stderr
    assert "/me/r2g?nw=" in first.stdout
    assert "/me/r2g/reports/" in first.stdout
    sent = [given for kind, given in wandb_server.asked if kind == "upsertView"]
    assert [given["type"] for given in sent] == ["project-view", "runs"]
    told = json.loads(path.read_text())
    assert (
        json.loads(sent[0]["spec"])["section"]["panelBankConfig"]
        == (told["workspace"]["spec"]["section"]["panelBankConfig"])
    )
    grids = [node for node in refs._nodes(json.loads(sent[1]["spec"])) if "runFeed" in node]
    assert all(grid["project"]["name"] == "r2g" for grid in grids)
    wandb_server.asked.clear()
    assert go(wandb_server, path).returncode == 0
    again = [given["id"] for kind, given in wandb_server.asked if kind == "upsertView"]
    assert again == ["new-project-view", "new-runs"]


def test_a_project_without_runs_is_told_and_the_workspace_is_not_forgotten(
    tmp_path: Path, wandb_server: Any
) -> None:
    done = go(wandb_server, tmp_path / "spec.json", "nowhere")
    assert done.returncode == 1
    assert "Are there runs in me/nowhere?" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "spec.json").read_text())["sent"]["workspace_id"] == "new-project-view"


def test_nobody_logged_in_is_told(tmp_path: Path, wandb_server: Any) -> None:
    del wandb_server.env["WANDB_API_KEY"]
    done = go(wandb_server, tmp_path / "spec.json")
    assert done.returncode == 1
    assert "wandb login" in done.stderr
    assert wandb_server.asked == []
