"""report.md, CSV and LaTeX: the tables as text files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from r2g.compare import words
from r2g.compare.analyse import Comparison
from r2g.compare.cells import Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "<": r"$<$",
    ">": r"$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def markdown(found: Comparison, tables: Sequence[Table]) -> str:
    """The whole report without its pictures."""
    lines = [f"# {found.name}", ""]
    lines += [found.spec.question, ""] if found.spec.question else []
    lines += [f"* {line}" for line in words.headline(found)] + [""]
    missing = words.left_out(found)
    lines += ["## Not in it", "", *[f"* {line}" for line in missing], ""] if missing else []
    for table in tables:
        lines += [f"## {table.title}", "", table.note, "", *_rows(table), ""]
    lines += [f"{words.NOT_CLINICAL} Pictures: report.html."]
    return "\n".join(lines) + "\n"


def _rows(table: Table) -> list[str]:
    right = [table.numeric(i) for i in range(len(table.headers))]
    escape = [[cell.text.replace("|", "\\|") for cell in row] for row in table.rows]
    ruler = ["---:" if flush else "---" for flush in right]
    return [f"| {' | '.join(cells)} |" for cells in ([*table.headers], ruler, *escape)]


def tex(table: Table) -> str:
    """A tabular for booktabs."""
    columns = "".join("r" if table.numeric(i) else "l" for i in range(len(table.headers)))
    lines = [f"% Scores under the protocol {table.protocol}"] if table.protocol else []
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _tex_row(table.headers), r"\midrule"]
    lines += [_tex_row([cell.text for cell in row]) for row in table.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in cells) + r" \\"


def csv_of(rows: Sequence[Sequence[object]]) -> str:
    """CSV with a header; floats keep 10 digits, what isn't there is empty."""
    out = io.StringIO()
    shown = [[f"{v:.10g}" if isinstance(v, float) else "" if v is None else v for v in row] for row in rows]
    csv.writer(out, lineterminator="\n").writerows(shown)
    return out.getvalue()


def scores_csv(found: Comparison) -> str:
    """One line an arm and score."""
    rows: list[list[object]] = [
        [
            "arm",
            "hash",
            "trainable",
            "trainable_percent",
            "score",
            "value",
            "low",
            "high",
            "seeds",
            "protocol",
        ]
    ]
    for row in found.scored:
        head = [row.name, row.arm.hash, row.trainable, row.percent]
        rows += [
            [*head, name, e.value, e.low, e.high, len(e.seeds), found.protocol]
            for name, e in row.scores.items()
        ]
    return csv_of(rows)


def differences_csv(found: Comparison) -> str:
    """One line an arm and score."""
    head = [
        "arm",
        "baseline",
        "score",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "detectable",
        "verdict",
        "protocol",
    ]
    rows: list[list[object]] = [[*head]]
    for row in found.rows:
        for name, d in row.differences.items():
            figures = [d.value, d.low, d.high, d.p, d.holm, d.detectable, d.verdict, found.protocol]
            rows.append([row.name, found.baseline, name, *figures])
    return csv_of(rows)


def runs_csv(found: Comparison) -> str:
    """One line a run: what it is, its scores, and its way to the target."""
    runs = [(row, run) for row in found.rows for run in row.arm.runs]
    names = sorted({name for _, run in runs for name in run.record.get("scores", {})})
    axes = ["steps", "samples", "tokens", "seconds", "flops"]
    rows: list[list[object]] = [
        [
            "arm",
            "seed",
            "run",
            "status",
            "trainable",
            "censored",
            *[f"{a}_to_target" for a in axes],
            "protocol",
            *names,
        ]
    ]
    for row, run in runs:
        way = next((one for one in row.reached if one.seed == run.seed), None)
        reached = [None] * len(axes) if way is None else [way.value.get(axis) for axis in axes]
        scores = [run.record.get("scores", {}).get(name) for name in names]
        censored = None if way is None else way.censored
        rows.append(
            [
                row.name,
                run.seed,
                run.id,
                run.status,
                row.trainable,
                censored,
                *reached,
                found.protocol,
                *scores,
            ]
        )
    return csv_of(rows)


def files(found: Comparison, tables: Sequence[Table], page: str) -> dict[str, str]:
    """Every file of a report by its name."""
    made = {"report.md": markdown(found, tables), "report.html": page}
    made |= {f"tables/{table.key}.tex": tex(table) for table in tables}
    made["tables/scores.csv"] = scores_csv(found)
    made["tables/differences.csv"] = differences_csv(found)
    made["tables/runs.csv"] = runs_csv(found)
    return made


def write(folder: Path, made: dict[str, str]) -> None:
    """Put the files into a folder, over what an earlier report left."""
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
