"""The edge: a board goes to W&B's server."""

from collections.abc import Callable, Mapping
from typing import Any

from r2g import cloud
from r2g.dashboard.build import Board


def send(board: Board, before: Mapping[str, str], keep: Callable[[dict[str, str]], None]) -> dict[str, str]:
    """Save workspace and report, in place of those that `before` names; gives their ids and URLs.

    `keep` is told after each, so that a report that is refused doesn't leave a workspace that nobody knows of. Raises
    CloudError when nobody is logged in, or the server refuses; runs must have made the project.
    """
    cloud.login()
    try:
        found = {**before, **_workspace(board, before)}
        keep(found)
        found |= _report(board, before)
        keep(found)
    # The library raises what comes: its own errors, those of the connection, bare Exception.
    except Exception as error:
        place = f"{board.workspace.entity}/{board.workspace.project}"
        raise cloud.CloudError(
            f"W&B didn't take it ({type(error).__name__}: {error}). Are there runs in {place}? "
            "python -m r2g.sync uploads them."
        ) from error
    return found


def _workspace(board: Board, before: Mapping[str, str]) -> dict[str, str]:
    workspace: Any = board.workspace
    workspace._internal_name = before.get("workspace", "")
    workspace._internal_id = before.get("workspace_id", "")
    workspace.save()
    ids = {"workspace": workspace._internal_name, "workspace_id": workspace._internal_id}
    return {**ids, "workspace_url": workspace.url}


def _report(board: Board, before: Mapping[str, str]) -> dict[str, str]:
    report: Any = board.report
    report.id = before.get("report", "")
    for runset in board.runsets:  # with a project, they look up its number: not before now
        runset.entity, runset.project = board.workspace.entity, board.workspace.project
    report.save()
    return {"report": report.id, "report_url": report.url}
