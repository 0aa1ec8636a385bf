"""Workspace and report as objects of wandb-workspaces; nothing here asks the network."""

from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from r2g.core import filing
from r2g.dashboard import panels

_RUNS = 100
_INTRO = (
    "Each run trained a part of a report generator around a frozen language model. Points are runs; lines are arms, "
    "the runs that differ only in their seed, as the mean of their seeds in their range. Intervals, tests and the "
    "controls stand in the offline report of r2g.compare."
)


@dataclass(frozen=True)
class Wanted:
    """What a dashboard is for. `name` keeps to the runs of one name, such as a sweep's; `arms` to these groups.

    `seconds` draws curves over time, which is for runs whose seconds compare.
    """

    entity: str
    project: str
    scores: tuple[str, ...]
    name: str | None = None
    arms: tuple[str, ...] = ()
    seconds: bool = False

    @property
    def title(self) -> str:
        return f"r2g budgets: {self.name or self.project}"


@dataclass(frozen=True)
class Board:
    """A workspace and a report, unsent. `runsets` are the report's, which learn their project when it is sent."""

    workspace: ws.Workspace
    report: wr.Report
    runsets: tuple[wr.Runset, ...]


def build(wanted: Wanted) -> Board:
    """The board; its spec is what `spec` gives."""
    grids = [(title, made, _runset(wanted)) for title, made in _sections(wanted)]
    report = wr.Report(
        entity=wanted.entity,
        project=wanted.project,
        title=wanted.title,
        description="Trainable parameters against scores and convergence.",
        blocks=[wr.P(_INTRO), *(block for grid in grids for block in _blocks(*grid))],
        width="fluid",
    )
    return Board(_workspace(wanted), report, tuple(runset for *_, runset in grids))


def spec(board: Board) -> dict[str, Any]:
    """What would be sent, as plain JSON."""
    models = {"workspace": board.workspace._to_model(), "report": board.report._to_model()}
    return {k: m.model_dump(mode="json", by_alias=True, exclude_none=True) for k, m in models.items()}


def _sections(wanted: Wanted) -> list[tuple[str, list[Any]]]:
    scores = wanted.scores
    return [
        ("Scores against the budget", panels.budgets(scores)),
        ("Convergence by arm", panels.convergence(wanted.seconds)),
        ("Convergence by tuning mode and projector", panels.convergence_by_mode()),
        ("Speed against the budget", panels.speed()),
        ("From choice to score", panels.parallel(scores)),
        ("Runs side by side", panels.comparison()),
    ]


def _workspace(wanted: Wanted) -> ws.Workspace:
    return ws.Workspace(
        entity=wanted.entity,
        project=wanted.project,
        name=wanted.title,
        sections=[ws.Section(name=name, panels=made, is_open=True) for name, made in _sections(wanted)],
        settings=ws.WorkspaceSettings(max_runs=_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=_filters(wanted), pinned_columns=panels.columns(wanted.scores)
        ),
    )


def _blocks(title: str, made: list[Any], runset: wr.Runset) -> list[Any]:
    return [wr.H2(title), wr.PanelGrid(runsets=[runset], panels=made)]


def _runset(wanted: Wanted) -> wr.Runset:
    return wr.Runset(
        name=wanted.name or "all runs",
        filters=_filters(wanted),
        pinned_columns=panels.columns(wanted.scores),
    )


def _filters(wanted: Wanted) -> Any:
    """By tag and group. A filter on the setting `name` would come out as one on W&B's run id."""
    found = []
    if wanted.name is not None:
        found.append(expr.Tags().isin([filing.name_tag(wanted.name)]))
    if wanted.arms:
        found.append(expr.Metric(panels.GROUP).isin(list(wanted.arms)))
    return expr.And(*found) if found else ""
