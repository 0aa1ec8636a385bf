"""The report's tables as cells; how they look is for the writers."""

from collections.abc import Sequence
from dataclasses import replace

from r2g.compare import notes, pace
from r2g.compare.analyse import Comparison, Row
from r2g.compare.cells import Cell, Table, bounds, chance, count, number, short, signed
from r2g.compare.draws import Difference, Estimate

_PARTS = ("encoder", "projector", "llm")
_GB = 1e9
_OF_SCORES = ("scores", "differences", "seeds", "controls", "labels")
CONTROLS = ("shuffled", "blank", "constant")


def tables(found: Comparison) -> list[Table]:
    """All tables, in the report's order."""
    made = [scores(found), differences(found), seeds(found), convergence(found), cost(found), controls(found)]
    made += [labels(found)] if any(row.labels for row in found.rows) else []
    return [_stamped(table.filled(), found.protocol) for table in made]


def _stamped(table: Table, protocol: str) -> Table:
    """A table of scores says which rules they are under."""
    if table.key not in _OF_SCORES:
        return table
    return replace(table, note=f"{table.note} Protocol: {protocol}.", protocol=protocol)


def scores(found: Comparison) -> Table:
    names = [name for name in found.spec.scores if any(name in row.scores for row in found.rows)]
    rows = [
        (
            *_head(found, row),
            count(row.trainable),
            Cell(f"{row.percent:.4f}", row.percent),
            *[_estimate(row.scores.get(name)) for name in names],
        )
        for row in found.rows
    ]
    return Table(
        "scores", "Scores", notes.scores(found), ("arm", "seeds", "trainable", "%", *names), tuple(rows)
    )


def differences(found: Comparison) -> Table:
    headers = ("score", "arm", "verdict", "difference", "p", "Holm p", "detectable", "seeds")
    rows = [
        (Cell(name, name), Cell(row.name, row.name), *_difference(row.differences[name]))
        for name in found.spec.scores
        for row in found.rows
        if name in row.differences
    ]
    return Table(
        "differences", f"Differences to {found.baseline}", notes.differences(found), headers, tuple(rows)
    )


def seeds(found: Comparison) -> Table:
    names = [name for name in found.spec.scores if any(name in row.scores for row in found.rows)]
    rows = [
        (
            Cell(row.name, row.name),
            Cell(str(run.seed), run.seed),
            Cell(run.status, run.status),
            *[number(run.record.get("scores", {}).get(name)) for name in names],
            count(run.record.get("distinct_reports")),
            Cell(run.id, run.id),
        )
        for row in found.rows
        for run in row.arm.runs
    ]
    headers = ("arm", "seed", "status", *names, "distinct reports", "run")
    return Table("seeds", "Seeds", "Each run by itself.", headers, tuple(rows))


def convergence(found: Comparison) -> Table:
    axes = [axis for axis in pace.AXES if axis not in found.refused]
    axes = [] if found.target is None else axes
    area = "area" not in found.refused
    rows = []
    for row in found.rows:
        there = [one for one in row.reached if one.censored is False]
        got = Cell(f"{len(there)} of {len(row.reached)}", len(there))
        cells = [Cell(row.name, row.name), *([got] if axes else [])]
        cells += [_middle(pace.middle(row.reached, axis)) for axis in axes]
        cells += [_apart(row.reached)] if axes else []
        rows.append((*cells, *([_area(row.reached)] if area else [])))
    headers = ["arm", *(["reached"] if axes else []), *[f"{axis} to target" for axis in axes]]
    headers += [*(["steps, seeds"] if axes else []), *(["area"] if area else [])]
    return Table("convergence", "Convergence", notes.convergence(found), tuple(headers), tuple(rows))


def cost(found: Comparison) -> Table:
    timed, held = ("seconds" not in found.refused), ("memory" not in found.refused)
    rows = []
    for row in found.rows:
        parts = row.arm.budget.get("parts", {})
        cells = [
            Cell(row.name, row.name),
            *[count(parts.get(part, {}).get("trainable")) for part in _PARTS],
            count(row.arm.budget.get("total")),
        ]
        if held:
            peak = row.mean("peak_memory", "bytes")
            cells.append(number(None if peak is None else peak / _GB, 2))
        if timed:
            cells += [
                number(row.mean("training", "seconds"), 1),
                number(row.whole(), 1),
            ]
        rows.append(tuple(cells))
    headers = ["arm", *[f"{part} trains" for part in _PARTS], "total", *(["peak memory, GB"] if held else [])]
    headers += ["training, s", "whole run, s"] if timed else []
    return Table("cost", "Memory and time", notes.cost(found), tuple(headers), tuple(rows))


def controls(found: Comparison) -> Table:
    name = found.spec.held_to
    rows = []
    for row in found.scored:
        intervals = [bounds(one.low, one.high) for one in row.seen]
        told = [Cell(row.name, row.name), number(row.mean("scores", name))]
        told += [number(row.control(control, name)) for control in CONTROLS]
        told.append(Cell("; ".join(intervals), min((one.low or 0.0 for one in row.seen), default=0.0)))
        reasons = "; ".join(dict.fromkeys(one.reason for one in row.seen if one.reason))
        told.append(Cell(row.verdict + (f" ({reasons})" if reasons else ""), row.verdict))
        rows.append(tuple(told))
    headers = ("arm", name, *CONTROLS, "D of each seed, 95 %", "uses the image")
    return Table("controls", "Does it look at the film?", notes.controls(found), headers, tuple(rows))


def labels(found: Comparison) -> Table:
    names = list(dict.fromkeys(name for row in found.rows for name in row.labels))
    rows = [
        (Cell(name, name), *[_estimate(row.labels.get(name), 3) for row in found.scored]) for name in names
    ]
    headers = ("label", *[row.name for row in found.scored])
    return Table("labels", "F1 of each label, in figures", notes.labels(found), headers, tuple(rows))


def _head(found: Comparison, row: Row) -> tuple[Cell, Cell]:
    name = f"{row.name} (baseline)" if row.name == found.baseline else row.name
    done, runs = len(row.arm.finished), len(row.arm.runs)
    return Cell(name, row.name), Cell(str(done) if done == runs else f"{done} of {runs}", done)


def _estimate(found: Estimate | None, digits: int = 4) -> Cell:
    if found is None:
        return Cell("-")
    around = "" if found.low is None else f" {bounds(found.low, found.high, digits)}"
    return Cell(f"{found.value:.{digits}f}{around}", found.value)


def _difference(found: Difference) -> tuple[Cell, ...]:
    apart = ", ".join(signed(value) for value in found.seeds.values())
    around = f"[{signed(found.low)}, {signed(found.high)}]"
    return (
        Cell(found.verdict, found.verdict),
        Cell(f"{signed(found.value)} {around}", found.value),
        chance(found.p),
        chance(found.holm),
        number(found.detectable),
        Cell(apart, found.value),
    )


def _middle(found: pace.Middle | None) -> Cell:
    return Cell("-") if found is None else Cell(short(found.value, "> " if found.more else ""), found.value)


def _apart(reached: Sequence[pace.Reached]) -> Cell:
    values = [(f"> {one.value['steps']:,}" if one.censored else f"{one.value['steps']:,}") for one in reached]
    return Cell(", ".join(values), len(reached))


def _area(reached: Sequence[pace.Reached]) -> Cell:
    known = [one.area for one in reached if one.area is not None]
    return number(sum(known) / len(known) if known else None)
