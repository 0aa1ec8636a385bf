"""Which runs can go up: a finished record, and a file that says the same as the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2g import record
from r2g.core import filing
from r2g.core.tables import table
from r2g.sync import offline

READY, SENT, REFUSED, LEFT = "ready", "sent before", "refused", "left out"
_CURVE = "curve.jsonl"
_KB = 10**3


@dataclass(frozen=True)
class Row:
    """One run, and what becomes of it. `why` says what is in the way."""

    id: str
    group: str
    state: str
    why: str = ""
    folder: Path | None = None
    points: int | None = None
    figures: int | None = None
    size: int | None = None


def look(run: Path, told: Mapping[str, Any], with_text: bool) -> Row:
    """What becomes of the run in this folder, whose record is `told`."""
    row = Row(str(told["id"]), str(told["arm"]), LEFT)
    if told["status"] != "finished":
        return replace(row, why=f"the run is {told['status']}")
    attempts = offline.attempts(run)
    if not attempts:
        went = "it was online as it ran" if offline.was_online(run) else "no W&B files"
        return replace(row, why=went)
    latest = attempts[-1]
    if offline.synced(latest):
        return replace(row, state=SENT, folder=latest)
    try:
        found = offline.read(latest)
    except offline.OfflineError as error:
        return replace(row, state=REFUSED, why=str(error))
    row = replace(
        row,
        folder=latest,
        points=found.points,
        figures=len(found.keys.summary),
        size=sum(path.stat().st_size for path in latest.rglob("*") if path.is_file()),
    )
    problems = [*differences(found, told, run), *([] if with_text else texts(latest, told))]
    if problems:
        return replace(row, state=REFUSED, why="; ".join(problems))
    return replace(row, state=READY)


def differences(found: offline.Offline, told: Mapping[str, Any], run: Path) -> list[str]:
    """Where the file says other than the record: its filing, an end that is missing, names that weren't logged."""
    pairs = {
        "id": (found.id, told["id"]),
        "group": (found.group, told["arm"]),
        "name": (found.name, filing.title(told)),
        "tags": (sorted(found.tags), sorted(filing.tags(told))),
        "job type": (found.job_type, filing.JOB_TYPE),
    }
    problems = [
        f"its {what} is {one}, the record's {other}" for what, (one, other) in pairs.items() if one != other
    ]
    if not found.ended:
        problems.append("the file has no end")
    gone = found.keys.lacking(filing.logged(told, record.read_lines(run / _CURVE)))
    if gone:
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        problems.append(f"the file lacks {', '.join(gone[:3])}{more}")
    return problems


def texts(folder: Path, told: Mapping[str, Any]) -> list[str]:
    """Why the folder may hold reports or films: the run was told to send them, or there are such files."""
    settings = told["config"]["track"]
    asked = [name for name in ("send_text", "send_images") if settings.get(name)]
    found = offline.media(folder)
    problems = [f"track.{name} was on" for name in asked]
    if found:
        problems.append(f"{len(found)} tables or pictures")
    return [f"it may hold patients' data ({', '.join(problems)}): --with-text sends it"] if problems else []


def show(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    columns = ["run", "group", "points", "figures", "KB", "state", "why"]
    size = [None if row.size is None else round(row.size / _KB) for row in rows]
    cells = [
        [row.id, row.group, row.points, row.figures, kb, row.state, row.why or None]
        for row, kb in zip(rows, size, strict=True)
    ]
    return table(columns, cells)
