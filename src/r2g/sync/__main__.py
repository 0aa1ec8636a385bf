"""python -m r2g.sync FOLDER ...: finished offline runs go to W&B, each under its arm's group.

Without --send nothing leaves the machine: it says what would go, after holding each W&B file against its run's record.
Runs that tracked report text or pictures are refused unless --with-text. What went up before isn't sent again.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from r2g import cloud
from r2g.compare import runs
from r2g.sync import offline, plan


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; the exit status is 1 when a run was refused or didn't arrive."""
    chosen = _parser().parse_args(argv)
    try:
        found = runs.find(map(runs.within, chosen.folders), Path())
    except runs.RunsError as error:
        sys.exit(str(error))
    rows = [plan.look(run.folder, run.record, chosen.with_text) for run in found]
    if chosen.send:
        try:
            rows = _sent(rows, chosen.entity, chosen.project)
        except cloud.CloudError as error:
            sys.exit(str(error))
    _print(plan.show(rows))
    ready = sum(row.state == plan.READY for row in rows)
    if ready:
        _print(
            f"Nothing was sent. --send uploads {ready} run(s): the numbers above and the settings, in which stand the "
            "names of the data's folders."
        )
    sys.exit(int(any(row.state in (plan.REFUSED, "failed") for row in rows)))


def _sent(rows: Sequence[plan.Row], entity: str | None, project: str | None) -> list[plan.Row]:
    """Upload what is ready, and look what arrived."""
    ready = [row.folder for row in rows if row.state == plan.READY and row.folder is not None]
    if ready:
        cloud.login()
        cloud.upload(ready, entity, project)
    return [
        replace(row, state="sent" if offline.synced(row.folder) else "failed")
        if row.state == plan.READY and row.folder is not None
        else row
        for row in rows
    ]


def _parser() -> argparse.ArgumentParser:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m r2g.sync", description=__doc__, formatter_class=about)
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="a sweep's folder (outputs/NAME), or a run's"
    )
    parser.add_argument("--send", action="store_true", help="upload; without it nothing leaves the machine")
    parser.add_argument(
        "--with-text", action="store_true", help="also runs that tracked report text or pictures"
    )
    parser.add_argument("--entity", help="another W&B entity than the runs were tracked for")
    parser.add_argument("--project", help="another W&B project than the runs were tracked for")
    return parser


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what a command says to its user


if __name__ == "__main__":
    main()
