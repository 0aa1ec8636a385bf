"""The panels: what is drawn against what, always under the names of `r2g.core.keys`."""

from collections.abc import Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr

from r2g.core import keys

SCORES = ("bleu_4", "rouge_l", "cider", "label_f1_micro")
"""What is drawn unless other scores are asked for; runs of the stock settings have them."""
GROUP = "Group"
"""W&B's name for what a run is grouped by: for ours, its arm."""
CHOICES = (keys.choice("tuning"), keys.choice("projector"))
_AXES = {keys.STEP: "steps", keys.SAMPLES: "studies seen", keys.SECONDS: "seconds of training"}
_RUNS = 100  # W&B draws 10 unless told


def budgets(scores: Sequence[str]) -> list[Any]:
    """Each score against what learns, a point a run."""
    return [_against_budget(keys.test(score), score) for score in scores]


def convergence(seconds: bool) -> list[Any]:
    """Loss along each axis and the selection along steps, a line an arm: the mean of its seeds in their range."""
    axes = [axis for axis in _AXES if seconds or axis != keys.SECONDS]
    losses = [_curve(keys.TRAIN_LOSS, axis, GROUP, "arm") for axis in axes]
    return [*losses, _curve(keys.VAL_SELECT, keys.STEP, GROUP, "arm")]


def convergence_by_mode() -> list[Any]:
    """The same by tuning mode and by projector, whose names say more than an arm's hash."""
    groups = {wr.Config(path): path.rpartition(".")[2] for path in CHOICES}
    return [
        _curve(name, keys.STEP, key, what)
        for name in (keys.TRAIN_LOSS, keys.VAL_SELECT)
        for key, what in groups.items()
    ]


def speed() -> list[Any]:
    """How fast each budget learns: the mean loss, and the steps to the target, where one was set."""
    return [
        _against_budget(keys.AREA, "mean training loss"),
        _against_budget(keys.BEST_STEP, "step of the best validation"),
    ]


def parallel(scores: Sequence[str]) -> list[Any]:
    """One line a run, from what was chosen over what it costs to what came of it."""
    chosen = [
        wr.ParallelCoordinatesPlotColumn(wr.Config(path), display_name=path.rpartition(".")[2])
        for path in CHOICES
    ]
    cost = wr.ParallelCoordinatesPlotColumn(
        wr.SummaryMetric(keys.BUDGET_TRAINABLE), display_name="trainable parameters", log=True
    )
    loss = wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(keys.AREA), display_name="mean training loss")
    ends = [wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(keys.test(s)), display_name=s) for s in scores]
    return [
        wr.ParallelCoordinatesPlot(
            title="tuning mode, projector, budget, scores",
            columns=[*chosen, cost, loss, *ends],
            layout=_wide(),
        )
    ]


def comparison() -> list[Any]:
    """Settings and figures of the runs side by side."""
    return [wr.RunComparer(diff_only="split", layout=_wide())]


def columns(scores: Sequence[str]) -> list[str]:
    """The runs' table: what was chosen, what learns, what came of it."""
    chosen = [f"config:{path.replace('.', '.value.', 1)}" for path in CHOICES]
    figures = [keys.BUDGET_TRAINABLE, keys.BUDGET_TRAINABLE_PERCENT, keys.AREA, *map(keys.test, scores)]
    return ["run:displayName", *chosen, *(f"summary:{name}" for name in figures)]


def _against_budget(name: str, what: str) -> Any:
    return wr.ScatterPlot(
        title=f"{what} against trainable parameters",
        x=wr.SummaryMetric(keys.BUDGET_TRAINABLE),
        y=wr.SummaryMetric(name),
        log_x=True,
    )


def _curve(name: str, axis: str, group: Any, what: str) -> Any:
    return wr.LinePlot(
        title=f"{name} by {what}, over {_AXES[axis]}",
        x=axis,
        y=[name if axis == keys.STEP else keys.by(axis, name)],
        title_x=_AXES[axis],
        groupby=group,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=_RUNS,
    )


def _wide() -> Any:
    return wr.Layout(w=24, h=10)
