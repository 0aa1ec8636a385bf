"""python -m r2g.compare QUESTION, or RUN ...: tables, statistics and pictures from records.

QUESTION is a folder with a comparison.yaml; its report is written there. Run folders can be given instead, with
--baseline and --primary; then --out says where. Nothing but records is read, and neither torch nor hydra is needed.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from r2g import record
from r2g.compare import runs, spec, words, write
from r2g.compare.analyse import Comparison, compare
from r2g.compare.figures import figures
from r2g.compare.html import PlotlyMissing, page
from r2g.compare.tables import tables

_LOG = logging.getLogger("r2g.compare")
_KEPT = ("record.json", "curve.jsonl", "scores.jsonl", "ngrams.npz", "labels.npz")
_TEXTS = "predictions.jsonl"
_RECORDS = "records"


def main() -> None:
    """The command line; the exit status is 1 when the runs can't be compared."""
    chosen = _parser().parse_args()
    try:
        found, folder = _found(chosen)
        made = tables(found)
        write.write(folder, write.files(found, made, page(found, made, figures(found))))
    except (ValueError, PlotlyMissing, record.RecordError, OSError) as error:
        sys.exit(str(error))
    for line in [*words.headline(found), *words.left_out(found), f"report: {folder / 'report.html'}"]:
        print(line, flush=True)  # noqa: T201 - what a command says to its user


def _found(chosen: argparse.Namespace) -> tuple[Comparison, Path]:
    first = Path(chosen.what[0])
    question = len(chosen.what) == 1 and (first / spec.FILE).is_file()
    wanted = spec.read(first / spec.FILE) if question else spec.Spec(runs=tuple(chosen.what))
    changes = {"baseline": chosen.baseline, "primary": chosen.primary, "target": chosen.target}
    wanted = replace(wanted, **{key: value for key, value in changes.items() if value is not None})
    base = first if question else Path()
    folder = chosen.out or (first if question else Path("comparison"))
    name = first.resolve().name if question else folder.resolve().name
    if chosen.collect:
        if not question:
            raise spec.SpecError(f"--collect needs a folder with a {spec.FILE}")
        collect(runs.find(chosen.collect, Path()), first / _RECORDS)
    arms = runs.group(runs.find(wanted.runs, base), wanted.labels)
    return compare(name, wanted, arms, chosen.leave_out), folder


def collect(found: Sequence[runs.Run], folder: Path) -> None:
    """Copy what a comparison reads; texts only of data that may be shown. What was there before is replaced."""
    if any(run.record["data"].get("shareable") is not True for run in found):
        _LOG.warning(
            "these records hold ids and labels of studies that may not be shown: keep %s to yourself", folder
        )
    staged = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    pictured: set[str] = set()
    for run in found:
        shown = run.record["data"].get("shareable") is True
        names = (*_KEPT, _TEXTS) if shown else _KEPT
        target = staged / run.folder.name
        target.mkdir(parents=True)
        pictures, data = run.folder / record.THUMBNAILS, str(run.record["data"].get("fingerprint"))
        if shown and pictures.is_dir() and data not in pictured:  # one run's pictures do for all on its data
            shutil.copytree(pictures, target / record.THUMBNAILS)
            pictured.add(data)
        for name in names:
            if (run.folder / name).is_file():
                shutil.copy2(run.folder / name, target / name)
        record.write_json(target / "record.json", _placeless(run.record))
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)
    _LOG.warning("%d records are in %s", len(found), folder)


def _placeless(told: Mapping[str, Any]) -> dict[str, Any]:
    """A record without the folders of the machine that it was made on."""
    config = {**told["config"], "paths": {}}
    command = [word for word in told.get("command", []) if not word.lstrip("+").startswith("paths.")]
    return {**told, "config": config, "command": command}


def _parser() -> argparse.ArgumentParser:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m r2g.compare", description=__doc__, formatter_class=about)
    parser.add_argument("what", nargs="+", help=f"a folder with {spec.FILE}, or run folders")
    parser.add_argument(
        "--baseline", metavar="ARM", help="an arm's name or hash (default: the one that trains least)"
    )
    parser.add_argument("--primary", metavar="SCORE", help="the score that decides (default: cider)")
    parser.add_argument("--target", type=float, metavar="LOSS", help="a training loss to be reached")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes")
    leave = "compare what can be compared, and name the rest in the report"
    parser.add_argument("--leave-out", action="store_true", help=leave)
    keep = "first copy these runs' records (no weights) into the question's folder `records`"
    parser.add_argument("--collect", nargs="+", metavar="RUN", help=keep)
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    main()
