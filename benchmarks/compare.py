"""Seconds to compare 12 records of 3,858 reports: python benchmarks/compare.py [reports] [arms] [seeds] [folder].

The records are made up: phantom reports, of which an arm finds more or fewer findings, scored by the real metrics.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from r2g.core import labels, ngrams
from r2g.core.resample import others
from r2g.core.slots import METRICS
from r2g.core.types import Prediction
from r2g.phantom.findings import Case, draw_case
from r2g.phantom.findings import labels as labels_of
from r2g.phantom.words import report

_METRICS: dict[str, dict[str, Any]] = {"bleu": {"order": 4}, "rouge_l": {}, "cider": {}, "label_f1": {}}
_DECODE = {"beams": 1, "sample": False, "max_tokens": 100, "batch_size": 64}


@dataclass(frozen=True)
class Arm:
    """A made-up arm: the share of findings that it finds, its size, and how fast its loss falls, in steps."""

    tuning: str
    finds: float
    trainable: int
    pace: float


ARMS = (
    Arm("shallow", 0.55, 37_440, 40.0),
    Arm("soft_prompt", 0.56, 40_512, 45.0),
    Arm("bitfit", 0.62, 46_080, 36.0),
    Arm("delta", 0.74, 62_016, 30.0),
    Arm("llm_lora", 0.58, 110_784, 33.0),
    Arm("deep", 0.8, 993_440, 22.0),
)


def make(
    folder: Path,
    arms: Sequence[Arm] = ARMS,
    seeds: Sequence[int] = (0, 1, 2),
    reports: int = 120,
    controls: Sequence[str] = ("shuffled", "blank", "constant"),
) -> Path:
    """Write a record for each arm and seed under `folder`; those that are there stay."""
    draw = np.random.default_rng(0)
    cases = [draw_case(draw) for _ in range(reports)]
    wanted = [report(case, draw, "data") for case in cases]
    for number, arm in enumerate(arms):
        for seed in seeds:
            if not (folder / f"{arm.tuning}{seed}" / "record.json").is_file():
                write(folder, arm, seed, cases, wanted, controls, np.random.default_rng([number, seed]))
    return folder


def write(
    folder: Path,
    arm: Arm,
    seed: int,
    cases: list[Case],
    wanted: list[str],
    controls: Sequence[str],
    draw: np.random.Generator,
) -> Path:
    """One record with all of its files."""
    rows = [
        Prediction(f"test_{i:06d}", text, _written(case, arm.finds, draw), tuple(labels_of(case)))
        for i, (case, text) in enumerate(zip(cases, wanted, strict=True))
    ]
    corpus, per_report, tables = _scored(rows, list(_METRICS))
    run = folder / f"{arm.tuning}{seed}"
    run.mkdir(parents=True, exist_ok=True)
    told = [{"id": p.id} | {n: values[i] for n, values in per_report.items()} for i, p in enumerate(rows)]
    _lines(run / "scores.jsonl", told)
    _lines(run / "predictions.jsonl", [asdict(p) for p in rows])
    _lines(run / "curve.jsonl", _curve(arm, draw))
    ngrams.save(run / ngrams.FILE, ngrams.count(rows))
    labels.save(run / labels.FILE, labels.Labels(tuple(p.id for p in rows), tables))
    (run / "record.json").write_text(json.dumps(_record(arm, seed, rows, corpus, controls), indent=1))
    return run


def _written(case: Case, finds: float, draw: np.random.Generator) -> str:
    kept = tuple(f for f in case.findings if draw.random() < finds)
    extra = tuple(f for f in draw_case(draw).findings if draw.random() < 0.12)
    return report(replace(case, findings=kept or extra), draw, "data")


def _scored(
    rows: list[Prediction], names: list[str]
) -> tuple[dict[str, float], dict[str, list[float]], dict[str, labels.LabelTable]]:
    corpus: dict[str, float] = {}
    per_report: dict[str, list[float]] = {}
    tables: dict[str, labels.LabelTable] = {}
    for name in names:
        found = METRICS.get(name)(**_METRICS[name]).score(rows)
        corpus |= found.corpus
        per_report |= found.per_report
        tables |= found.tables
    return corpus, per_report, tables


def _record(
    arm: Arm, seed: int, rows: list[Prediction], corpus: dict[str, float], controls: Sequence[str]
) -> dict[str, Any]:
    source = others(len(rows), seed)
    blind = {
        "shuffled": [replace(p, hypothesis=rows[source[i]].hypothesis) for i, p in enumerate(rows)],
        "blank": [replace(p, hypothesis="No pneumothorax is seen.") for p in rows],
        "constant": [replace(p, hypothesis=rows[0].reference) for p in rows],
    }
    return {
        "schema": 1,
        "id": f"{arm.tuning}-{seed}",
        "arm": f"arm-{arm.tuning}",
        "name": "made_up",
        "status": "finished",
        "choices": {"encoder": "tiny", "projector": "linear", "llm": "tiny", "tuning": arm.tuning},
        "config": {
            "name": "made_up",
            "seed": seed,
            "tuning": {"mode": arm.tuning},
            "train": {"precision": "fp32", "steps": 250, "target_loss": 0.6},
            "decode": _DECODE,
            "score": {"metrics": {name: {"kind": name} for name in _METRICS}},
        },
        "data": {"fingerprint": "f" * 32, "shareable": True},
        "protocol": {"name": "full", "hash": "0" * 12, "references": ngrams.digest(rows)},
        "device": {"type": "cpu", "processes": 1},
        "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
        "budget": {
            "trainable": arm.trainable,
            "total": 3_066_464 + arm.trainable,
            "trainable_percent": 100 * arm.trainable / (3_066_464 + arm.trainable),
            "parts": {"projector": {"trainable": 37_440}, "encoder": {"trainable": arm.trainable - 37_440}},
            "flops": {"forward": 400_000_000, "backward": 700_000_000},
        },
        "training": {"step": 250, "seconds": 40.0 + arm.trainable / 20_000},
        "wall_seconds": 80.0 + arm.trainable / 20_000,
        "reuse": {"what": "features"},
        "convergence": {"target": 0.6},
        "scores": corpus,
        "absent": {},
        "controls": {name: _scored(blind[name], ["bleu", "cider", "label_f1"])[0] for name in controls},
        "distinct_reports": len({p.hypothesis for p in rows}),
    }


def _curve(arm: Arm, draw: np.random.Generator, steps: int = 250) -> list[dict[str, float]]:
    floor = 0.62 - 0.12 * arm.finds + float(draw.normal(0, 0.004))
    seconds = np.cumsum(draw.uniform(0.1, 0.2, steps) * (1 + arm.trainable / 800_000))
    loss = (
        floor
        + 0.6 * np.exp(-np.arange(steps) / (arm.pace * draw.uniform(0.9, 1.1)))
        + draw.normal(0, 0.02, steps)
    )
    return [
        {"step": i + 1, "samples": 32 * (i + 1), "tokens": 800 * (i + 1), "seconds": float(seconds[i])}
        | {"train/loss": float(loss[i])}
        for i in range(steps)
    ]


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main(reports: int = 3858, arms: int = 4, seeds: int = 3, folder: str | None = None) -> None:
    """Make the records, then time the command as a user starts it."""
    place = Path(folder or tempfile.mkdtemp())
    started = time.perf_counter()
    made = place / "runs"
    make(made, ARMS[:arms], range(seeds), reports, ("shuffled",))
    print(f"{arms * seeds} records of {reports} reports made in {time.perf_counter() - started:.1f} s")
    command = [sys.executable, "-m", "r2g.compare", *map(str, sorted(made.iterdir()))]
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([*command, "--out", str(place / "report")], check=True, stdout=subprocess.DEVNULL)
        print(f"compare: {time.perf_counter() - started:.1f} s")
    if folder is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:4]), *sys.argv[4:5])  # type: ignore[arg-type]
