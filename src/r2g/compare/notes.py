"""What stands under the tables' titles: how each figure was had."""

from r2g.compare.analyse import Comparison


def scores(found: Comparison) -> str:
    return (
        f"Mean over the seeds; in brackets the 95 % bootstrap interval over {found.reports:,} reports, drawn the same "
        "for all arms. It says how a score moves with other reports, not with other seeds: those stand apart below."
    )


def differences(found: Comparison) -> str:
    return (
        f"Arm minus {found.baseline}, on the seeds that both have. p: paired approximate randomization over reports, "
        f"{found.spec.permutations:,} permutations; adjusted (Holm) over the arms, for each score. Detectable: the "
        "smallest true difference that this many reports show with power 0.8, at the strictest of Holm's steps. An arm "
        "is called higher or lower only if the adjusted p is below 0.05 and all seeds agree. Intervals are not "
        "adjusted. "
        f"{found.spec.primary} decides; the other scores are there to look at."
    )


def controls(found: Comparison) -> str:
    margin = f"{100 * found.spec.blindness_margin:g} %"
    return (
        f"{found.spec.held_to} beside that of reports that don't come from the film. With D = score - "
        f"shuffled, a run uses the image if the whole 95 % bootstrap interval of D lies above {margin} of the shuffled "
        "score; it doesn't if all of the interval lies below; else it is unclear. An arm is what all its runs are, or "
        "unclear."
    )


def labels(found: Comparison) -> str:
    return (
        "Means over the seeds; in brackets the 95 % bootstrap interval over reports, where all runs have labels.npz. "
        f"A draw of the {found.reports:,} reports in which no study has the label doesn't count for its interval."
    )


def cost(found: Comparison) -> str:
    note = (
        "Means over the seeds. Memory is the most that the training process ever had, if its record says it."
    )
    if "seconds" not in found.refused:
        note += (
            " A whole run is from its start to its record, without filling the cache; it is not told of one that was "
            "interrupted, since only its last attempt's is known."
        )
    for what, title in (("memory", "Memory is"), ("seconds", "Seconds are")):
        if what in found.refused:
            note += f" {title} not compared: {found.refused[what]}."
    return note


def convergence(found: Comparison) -> str:
    parts = []
    if found.target is not None:
        parts.append(
            f"Medians over the seeds until the smoothed training loss is at or below {found.target:g} and stays. A run "
            "that never got there is censored, not left out: it counts as later than all others, and > marks a bound."
        )
    titles = {
        "target": "No target",
        "seconds": "Seconds are not compared",
        "flops": "FLOPs are not compared",
        "area": "Areas under the loss are not compared",
    }
    parts += [f"{title}: {found.refused[what]}." for what, title in titles.items() if what in found.refused]
    if "area" not in found.refused:
        parts.append("Area: the mean training loss over all steps, in nats, a mean over the seeds.")
    return " ".join(parts)
