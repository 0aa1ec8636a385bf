"""What an offline W&B run's file holds, read by W&B's own reader; no server is asked."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2g import cloud
from r2g.core.filing import Keys, paths

_PATIENCE = 120


class OfflineError(RuntimeError):
    """A W&B file that can't be read."""


@dataclass(frozen=True)
class Offline:
    """How a file says that its run is filed, and what was logged; a figure that is None counts as not logged."""

    id: str
    group: str
    name: str
    tags: tuple[str, ...]
    job_type: str
    keys: Keys
    points: int
    ended: bool


def attempts(run: Path) -> list[Path]:
    """The folders of a run's offline attempts, the latest last."""
    return sorted((run / "wandb").glob("offline-run-*"))


def was_online(run: Path) -> bool:
    """Did the run send its numbers as they came?"""
    return any((run / "wandb").glob("run-*"))


def synced(folder: Path) -> bool:
    """Has W&B marked the folder as uploaded?"""
    return any(folder.glob("*.wandb.synced"))


def media(folder: Path) -> list[str]:
    """Tables and pictures beside the numbers; they may hold reports and films."""
    return sorted(str(path.relative_to(folder)) for path in folder.glob("files/media/**/*") if path.is_file())


def read(folder: Path) -> Offline:
    """The file in an offline run's folder. Raises OfflineError."""
    call = [*cloud.WANDB, "leet", "inspect", "--json", str(folder)]
    try:
        done = subprocess.run(
            call, env=cloud.quiet(), capture_output=True, text=True, check=True, timeout=_PATIENCE
        )
        return _told([json.loads(line) for line in done.stdout.splitlines()])
    except subprocess.CalledProcessError as error:
        raise OfflineError(f"{folder} can't be read: {error.stderr.strip()}") from error
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise OfflineError(f"{folder} can't be read: {type(error).__name__}: {error}") from error


def _told(records: list[dict[str, Any]]) -> Offline:
    (run, *_) = (record["run"] for record in records if record["type"] == "run")
    points = [record["history"]["item"] for record in records if record["type"] == "history"]
    updates = {kind: _updates(kind, records) for kind in ("config", "summary")}
    settings = {**run.get("config", {}).get("update", {}), **updates["config"]}
    return Offline(
        id=run["run_id"],
        group=run.get("run_group", ""),
        name=run.get("display_name", ""),
        tags=tuple(run.get("tags", ())),
        job_type=run.get("job_type", ""),
        keys=Keys(frozenset(paths(settings)), _there(points), _there([updates["summary"]])),
        points=len(points),
        ended=any(record["type"] == "exit" for record in records),
    )


def _updates(kind: str, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records:
        if record["type"] == kind:
            found |= record[kind].get("update", {})
    return found


def _there(rows: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names with a value, but for W&B's own."""
    return frozenset(k for row in rows for k, v in row.items() if v is not None and not k.startswith("_"))
