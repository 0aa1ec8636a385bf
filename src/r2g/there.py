"""Which jobs of a multirun have their record already: asked by its launcher, in a process of its own.

The launching process stays as small as it is, and the arms that are done need no start, no GPU and no place in a queue.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from r2g.config.multirun import own_part
from r2g.core.outcome import Outcome

_LOG = logging.getLogger(__name__)
_ANSWER = "outcomes: "


def already(jobs: Sequence[DictConfig]) -> list[Outcome | None]:
    """The outcome of each job whose record is there, found by the hash of its resolved config; None for the others.

    So also for one with a mistake, or whose record is of other data: its own start tells. Raises ChildProcessError.
    """
    if not any(_something_finished(job) for job in jobs):
        return [None] * len(jobs)
    _LOG.info("looking which of %d arms are finished", len(jobs))
    texts = json.dumps([OmegaConf.to_yaml(own_part(job)) for job in jobs])
    call = [sys.executable, "-m", __name__]
    done = subprocess.run(call, input=texts, stdout=subprocess.PIPE, text=True, check=False)
    answers = [line for line in done.stdout.splitlines() if line.startswith(_ANSWER)]
    if done.returncode or len(answers) != 1:
        raise ChildProcessError(f"{' '.join(call)} ended with {done.returncode}")
    told = json.loads(answers[0].removeprefix(_ANSWER))
    return [Outcome(**each) if each else None for each in told]


def _something_finished(job: DictConfig) -> bool:
    """A look without torch: are there finished records of this name?"""
    try:
        folder = Path(job.paths.outputs) / job.name
    except Exception:  # whatever is wrong with the config: its own start tells
        return False
    return any(path.parent.suffix != ".partial" for path in folder.glob("*/record.json"))


def _found(text: str, prints: dict[str, str]) -> Outcome | None:
    from r2g import record
    from r2g.config.resolve import resolve, to_tree
    from r2g.datasets._fingerprint import fingerprint
    from r2g.matching import matched

    tree: Any = OmegaConf.create(text)
    config = matched(resolve(tree))
    folder = record.folder_of(config.paths.outputs, config.name, record.run_id(to_tree(config)))
    done = folder.finished()
    if done is None:
        return None
    data = repr(to_tree(config.data))
    if data not in prints:
        prints[data] = fingerprint(config.data.load(config.paths.cache, config.seed), config.paths.cache)
    if done["data"]["fingerprint"] != prints[data]:
        return None
    best = done["training"].get("best")
    return Outcome("already there", str(folder.final.absolute()), objective=best)


def main() -> None:
    """Jobs as JSON from standard input, their outcomes as a line of output."""
    prints: dict[str, str] = {}
    told: list[dict[str, Any] | None] = []
    for text in json.load(sys.stdin):
        try:
            outcome = _found(text, prints)
        except Exception:  # whatever is wrong with this job: its own start tells
            outcome = None
        told.append(None if outcome is None else asdict(outcome))
    print(_ANSWER + json.dumps(told))  # noqa: T201 - a library may print too


if __name__ == "__main__":
    main()
