"""A run's record on disk: its folder, its identity, and files that are whole or absent."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SCHEMA = 1
THUMBNAILS = "thumbnails"
_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "open_clip_torch", "timm", "r2g")
# What doesn't change a result: where it is written, who watches, how many hands load the data, and why a setting
# has the value that it has.
_INERT = ("paths", "track", "budget_match")
_INERT_TRAIN = ("workers", "processes", "checkpoint_minutes", "checkpoint_steps", "device")


class RecordError(RuntimeError):
    """A record that can't be read, or that contradicts what is asked for."""


def run_id(tree: Mapping[str, Any], seed: bool = True) -> str:
    """12 hex digits: the hash of a resolved config without what doesn't change a result.

    `seed=False` gives the arm's id, the same for all seeds.
    """
    kept = {k: v for k, v in tree.items() if k not in _INERT and (seed or k != "seed")}
    kept["train"] = {k: v for k, v in tree["train"].items() if k not in _INERT_TRAIN}
    kept = _without_folders(kept)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def _without_folders(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_folders(v) for k, v in tree.items() if k != "cache"}
    return [_without_folders(v) for v in tree] if isinstance(tree, list) else tree


@dataclass(frozen=True)
class RunFolder:
    """Where a run works (`<id>.partial`) and where it ends (`<id>`)."""

    final: Path

    @property
    def partial(self) -> Path:
        return self.final.with_name(self.final.name + ".partial")

    def finished(self) -> dict[str, Any] | None:
        """The finished record, if there is one."""
        return read(self.final) if (self.final / "record.json").is_file() else None

    def finish(self) -> None:
        """Give the folder its final name: from here on the run counts, and needs its checkpoints no more."""
        self.partial.replace(self.final)
        shutil.rmtree(self.final / "checkpoints", ignore_errors=True)


def folder_of(outputs: Path, name: str, identity: str) -> RunFolder:
    """The folder of a run."""
    return RunFolder(outputs / name / identity)


def read(folder: Path) -> dict[str, Any]:
    """A record. Raises RecordError when it's missing, broken, or of another schema."""
    path = folder / "record.json"
    try:
        record = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RecordError(f"no readable record at {path}: {error}") from error
    if record.get("schema") != SCHEMA:
        raise RecordError(f"{path} has schema {record.get('schema')}, this version reads {SCHEMA}")
    return record


def write_json(path: Path, value: Any) -> None:
    """Write a whole file or nothing: to a sibling first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=1, allow_nan=True) + "\n")
    draft.replace(path)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSONL file, whole or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    draft.replace(path)


def thumbnail(place: int) -> str:
    """The file of the study that stands at this place (from 0) in scores.jsonl, inside the folder of thumbnails."""
    return f"{place:03d}.jpg"


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row to a JSONL file and flush it."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last row that a kill cut off is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def environment() -> dict[str, Any]:
    """Libraries, Python, machine and the checkout's commit: what a reader needs to run it again."""
    libraries = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = "absent"
    return {
        "libraries": libraries,
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "git": _git(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _git() -> dict[str, Any]:
    """Commit and dirty flag of the source's checkout; empty for an installed wheel."""
    here = Path(__file__).resolve().parent
    if shutil.which("git") is None or not (here.parents[1] / ".git").exists():
        return {}
    call = ["git", "-C", str(here)]
    head = subprocess.run([*call, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    state = subprocess.run([*call, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return (
        {"commit": head.stdout.strip(), "dirty": bool(state.stdout.strip())} if head.returncode == 0 else {}
    )
