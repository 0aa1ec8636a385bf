"""A run's identity, and files that are whole or absent."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2g import record
from r2g.config.resolve import to_tree
from r2g.config.schema import RunConfig


@pytest.fixture(scope="session")
def tree(configured: Callable[..., RunConfig]) -> dict[str, Any]:
    return to_tree(configured("llm=smollm2"))


def test_ids_are_short_and_repeat(tree: dict[str, Any]) -> None:
    assert record.run_id(tree) == record.run_id(copy.deepcopy(tree))
    assert len(record.run_id(tree)) == 12
    assert int(record.run_id(tree), 16) >= 0
    assert record.run_id(dict(reversed(tree.items()))) == record.run_id(tree)


@pytest.mark.parametrize(
    "change",
    [
        ("name", "other"),
        ("seed", 7),
        ("train.learning_rate", 0.5),
        ("train.micro_batch", 2),
        ("train.precision", "bf16"),
        ("decode.beams", 4),
        ("score.controls", False),
        ("tuning.frozen_mode", "train"),
        ("data.data_seed", 5),
        ("encoder.views", "concat"),
        ("llm.prompt.after", "x"),
    ],
    ids=lambda change: change[0],
)
def test_what_changes_a_result_changes_the_id(tree: dict[str, Any], change: tuple[str, Any]) -> None:
    assert record.run_id(_changed(tree, *change)) != record.run_id(tree)


@pytest.mark.parametrize(
    "change",
    [
        ("paths.outputs", "elsewhere"),
        ("paths.cache", "elsewhere"),
        ("llm.cache", "elsewhere"),
        ("track", {"kind": "none"}),
        ("train.workers", 3),
        ("train.processes", 2),
        ("train.device", "cpu"),
        ("train.checkpoint_minutes", 1.0),
        ("train.checkpoint_steps", 3),
    ],
    ids=lambda change: change[0],
)
def test_what_changes_no_result_leaves_the_id(tree: dict[str, Any], change: tuple[str, Any]) -> None:
    assert record.run_id(_changed(tree, *change)) == record.run_id(tree)


def test_an_arm_is_its_runs_without_their_seeds(tree: dict[str, Any]) -> None:
    other = _changed(tree, "seed", 8)
    assert record.run_id(tree, seed=False) == record.run_id(other, seed=False)
    assert record.run_id(tree, seed=False) != record.run_id(_changed(tree, "decode.beams", 2), seed=False)


def _changed(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    *folders, last = key.split(".")
    node = tree
    for name in folders:
        node = node[name]
    assert node[last] != value
    node[last] = value
    return tree


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    record.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        record.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    lines = tmp_path / "rows.jsonl"
    record.write_lines(lines, [{"a": 1}])
    with pytest.raises(TypeError):
        record.write_lines(lines, [{"a": 2}, {"a": object()}])
    assert record.read_lines(lines) == [{"a": 1}]


def test_a_row_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    assert record.read_lines(path) == []
    record.append_line(path, {"step": 1})
    record.append_line(path, {"step": 2})
    path.write_text(path.read_text()[:-4])
    assert record.read_lines(path) == [{"step": 1}]


def test_a_record_is_read_or_refused(tmp_path: Path) -> None:
    with pytest.raises(record.RecordError, match="no readable record"):
        record.read(tmp_path)
    (tmp_path / "record.json").write_text('{"schema": 1')
    with pytest.raises(record.RecordError, match="no readable record"):
        record.read(tmp_path)
    record.write_json(tmp_path / "record.json", {"schema": 0})
    with pytest.raises(record.RecordError, match="schema 0"):
        record.read(tmp_path)
    record.write_json(tmp_path / "record.json", {"schema": record.SCHEMA, "status": "finished"})
    assert record.read(tmp_path)["status"] == "finished"


def test_a_folder_gets_its_name_when_the_run_is_finished(tmp_path: Path) -> None:
    folder = record.folder_of(tmp_path, "mine", "abc")
    assert folder.partial == tmp_path / "mine" / "abc.partial"
    assert folder.finished() is None
    record.write_json(folder.partial / "record.json", {"schema": record.SCHEMA})
    (folder.partial / "checkpoints").mkdir()
    assert folder.finished() is None
    folder.finish()
    assert folder.finished() == {"schema": record.SCHEMA}
    assert sorted(p.name for p in folder.final.iterdir()) == ["record.json"]
    assert not folder.partial.exists()


def test_a_kill_while_a_run_gets_its_name_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = record.folder_of(tmp_path, "mine", "abc")
    record.write_json(folder.partial / "record.json", {"schema": record.SCHEMA})
    (folder.partial / "checkpoints" / "step-9").mkdir(parents=True)

    remove = shutil.rmtree

    def killed(path: Path, **_: object) -> None:
        remove(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(record.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.finish()
    assert folder.finished() is not None or (folder.partial / "checkpoints" / "step-9").exists()


def test_the_environment_names_the_libraries() -> None:
    told = record.environment()
    assert told["libraries"]["torch"] != "absent"
    json.dumps(told)
