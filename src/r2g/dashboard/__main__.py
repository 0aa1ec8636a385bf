"""python -m r2g.dashboard: a W&B workspace and report that compare budgets, for the runs of a project.

Without --send nothing leaves the machine: the spec is written as JSON. With --send it goes to W&B, and what was sent is
kept in the spec, so that sending again changes it there.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2g import cloud, record
from r2g.compare import runs
from r2g.compare.fair import timing_differs
from r2g.core import filing
from r2g.core.filing import Keys
from r2g.core.registry import nearest

if TYPE_CHECKING:
    from r2g.dashboard.build import Wanted

_EXTRA = "wandb-workspaces is not installed: in the checkout, pip install -e '.[dashboard]'"
_HOW = (
    "Nothing was sent. The same line with --send sends it; python -m r2g.sync uploads the runs that it draws."
)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; what can't be built or sent ends with a message."""
    chosen = _parser().parse_args(argv)
    try:
        from r2g.dashboard.build import Wanted
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "wandb_workspaces":
            raise
        sys.exit(_EXTRA)
    try:
        met = runs.find(map(runs.within, chosen.runs), Path()) if chosen.runs else []
        found = [run for run in met if run.status == "finished" and "scores" in run.record]
        logged = [filing.logged(run.record, record.read_lines(run.folder / "curve.jsonl")) for run in found]
        wanted = Wanted(
            entity=chosen.entity,
            project=chosen.project,
            scores=_scores(chosen, found),
            name=chosen.name,
            arms=tuple(chosen.group),
            seconds=_seconds_compare(found),
        )
        _make(wanted, logged, chosen.spec, chosen.send)
    except (ValueError, OSError, cloud.CloudError) as error:
        sys.exit(str(error))


def _make(wanted: "Wanted", logged: Sequence[Keys], path: Path, send: bool) -> None:
    from r2g.dashboard import build, refs

    board = build.build(wanted)
    spec = build.spec(board)
    asked = refs.references(spec)
    for held in logged:
        if gone := held.lacking(asked):
            raise ValueError(f"a panel would stay empty; a run lacks {', '.join(gone)}")
    sent = _before(path, wanted)
    record.write_json(path, {"sent": sent, **spec})
    counts = [refs.panels(spec[what]) for what in ("workspace", "report")]
    checked = f"; each key that they refer to is logged by {len(logged)} runs" if logged else ""
    _print(f"{path}: a workspace of {counts[0]} panels, a report of {counts[1]}{checked}")
    if not send:
        _print(_HOW)
        return
    from r2g.dashboard.send import send as go

    sent = go(board, sent, lambda told: record.write_json(path, {"sent": told, **spec}))
    _print(f"{sent['workspace_url']}\n{sent['report_url']}")


def _scores(chosen: argparse.Namespace, found: Sequence[runs.Run]) -> tuple[str, ...]:
    """Those that were asked for, or else: of the runs given, what all of them scored; without any, the usual."""
    from r2g.dashboard.panels import SCORES

    asked = tuple(dict.fromkeys(chosen.metric))
    if not found:
        return asked or SCORES
    there = [name for name in found[0].record["scores"] if all(name in run.record["scores"] for run in found)]
    for name in asked:
        if name not in there:
            raise ValueError(
                f"not all runs have the score '{name}'{nearest(name, there)} (they have: {', '.join(there)})"
            )
    return asked or tuple(name for name in SCORES if name in there) or tuple(there)


def _seconds_compare(found: Sequence[runs.Run]) -> bool:
    """Would a comparison of the runs given show seconds?"""
    return len(found) > 0 and not timing_differs(found)


def _before(path: Path, wanted: "Wanted") -> dict[str, str]:
    """What a spec of the same place says that was sent; empty if nothing was."""
    if not path.is_file():
        return {}
    told: dict[str, Any] = json.loads(path.read_text())
    try:
        here = (told["workspace"]["entity"], told["workspace"]["project"], told["workspace"]["displayName"])
        sent: dict[str, str] = told["sent"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no spec of r2g.dashboard; --spec names another file") from error
    return sent if here == (wanted.entity, wanted.project, wanted.title) else {}


def _parser() -> argparse.ArgumentParser:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m r2g.dashboard", description=__doc__, formatter_class=about)
    parser.add_argument("--entity", required=True, help="the W&B user or team")
    parser.add_argument("--project", required=True, help="the W&B project, as in track.project")
    parser.add_argument(
        "--name", help="only runs of this name, such as a sweep's (default: all of the project)"
    )
    parser.add_argument(
        "--group", action="append", default=[], metavar="ARM", help="only this arm's hash; may be repeated"
    )
    parser.add_argument(
        "--metric", action="append", default=[], metavar="SCORE", help="a score to draw; may be repeated"
    )
    runs_help = "run folders, or a folder of them, whose keys the panels are held against"
    parser.add_argument("--runs", nargs="+", default=[], metavar="FOLDER", help=runs_help)
    parser.add_argument(
        "--spec", type=Path, default=Path("dashboard.json"), metavar="FILE", help="where the spec goes"
    )
    parser.add_argument(
        "--send", action="store_true", help="send it to W&B; without it nothing leaves the machine"
    )
    return parser


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what a command says to its user


if __name__ == "__main__":
    main()
