"""What a run tells the process that started it: a small file in Hydra's folder of the job."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

_FILE = "outcome.json"
GOOD = ("finished", "already there", "halved")  # its record is there, or a search has done with it


@dataclass(frozen=True)
class Outcome:
    """Where the run's record is and how far the run came.

    `status` is `running`, `finished`, `already there`, `halved`, `failed` or `stopped`; a killed run leaves `running`.
    `objective` is the best validation selection, which a search maximizes.
    """

    status: str
    record: str | None = None
    error: str | None = None
    objective: float | None = None

    def write(self, folder: Path) -> None:
        """Into a job's folder, over what was there."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_text(json.dumps(asdict(self)) + "\n")


def read_outcome(folder: Path) -> Outcome | None:
    """What the run of this job told; None if it told nothing, or was killed while it did."""
    try:
        return Outcome(**json.loads((folder / _FILE).read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def forget_outcome(folder: Path) -> None:
    """Take away what an earlier run told here."""
    (folder / _FILE).unlink(missing_ok=True)
