"""A search of 27 arms (projector x learning rate x warm-up) with successive halving, and in full.

Both run as gangs on the tiny models and phantom films, drawn and encoded before. Halving keeps a third at each of two
rungs. Told: seconds of both, whether the full search's winner (by validation) is among halving's finalists, the
winner's rank among the 27 at each of the full search's validations, and what is lost: by how much the best finalist's
selection, as the full search saw it, lies below the winner's.

python benchmarks/search.py [--rounds 5] [--first 0] [--steps 60] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from r2g.core.tables import table

GRID = [
    "projector=linear,mlp,qformer_lite",
    "train.learning_rate=5e-4,2e-3,8e-3",
    "train.warmup_steps=0,5,20",
]
SMALL = ["data.train=512", "data.val=50", "data.test=50", "train.evals=6", "train.eval_studies=50"]
HALVING = "hydra.launcher.halving={eta: 3, metric: select, rungs: [1, 2], keep: 3}"


def search(steps: int, seed: int, cache: Path, halving: bool) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of the search, and the records of the arms that finished."""
    with tempfile.TemporaryDirectory() as outputs:
        words = [*GRID, *SMALL, f"train.steps={steps}", f"seed={seed}", "track=none", "score=quick"]
        words += ["hydra/launcher=gang", "hydra.launcher.max_arms=27", f"paths.outputs={outputs}"]
        words += [f"paths.cache={cache}", *([HALVING] if halving else [])]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "r2g.run", "-m", *words], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(done.stderr[-3000:] + done.stdout[-2000:])
        paths = Path(outputs).glob("run/*/record.json")
        found = [
            json.loads(path.read_text())
            | {"id": path.parent.name, "judged": judged(path.with_name("curve.jsonl"))}
            for path in paths
        ]
        return seconds, [r for r in found if r["status"] == "finished"]


def judged(curve: Path) -> list[float]:
    """The selection at each validation."""
    rows = [json.loads(line) for line in curve.read_text().splitlines()]
    return [row["val/select"] for row in rows if "val/select" in row]


def ranks(winner: dict[str, Any], every: list[dict[str, Any]]) -> list[int]:
    """The winner's place among all at each validation, the best one's is 1."""
    return [1 + sum(r["judged"][i] > value for r in every) for i, value in enumerate(winner["judged"])]


def paired(rounds: int, steps: int, first: int) -> dict[str, Any]:
    """In full and with halving, turn by turn, each round with its own seed, from `first` on."""
    seconds: dict[str, list[float]] = {"full": [], "halving": []}
    kept: list[bool] = []
    places: list[list[int]] = []
    lost: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        cache = Path(place)
        for seed in range(first, first + rounds):
            if seed == first:
                search(2, seed, cache, halving=False)  # draws and encodes the films
            whole, every = search(steps, seed, cache, halving=False)
            cut, last = search(steps, seed, cache, halving=True)
            winner = max(every, key=lambda r: r["training"]["best"])
            finalists = {r["id"] for r in last}
            kept.append(winner["id"] in finalists)
            found = max(r["training"]["best"] for r in every if r["id"] in finalists)
            lost.append(winner["training"]["best"] - found)
            places.append(ranks(winner, every))
            seconds["full"].append(whole)
            seconds["halving"].append(cut)
            print(
                f"seed {seed}: {whole:.1f} s in full ({len(every)} arms), {cut:.1f} s with halving "
                f"({len(last)} finished); the winner {'is' if kept[-1] else 'is not'} among them; "
                f"its rank at each validation: {places[-1]}; lost: {lost[-1]:.4f} of {winner['training']['best']:.4f}",
                flush=True,
            )
    ratios = [a / b for a, b in zip(seconds["full"], seconds["halving"], strict=True)]
    told = {"seconds": seconds, "kept": sum(kept), "rounds": rounds, "ranks": places, "lost": lost}
    return told | {"ratio": statistics.median(ratios)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first round's seed")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = paired(chosen.rounds, chosen.steps, chosen.first)
    medians = [statistics.median(found["seconds"][way]) for way in ("full", "halving")]
    print(table(["", "full, s", "halving, s", "times"], [["27 arms", *medians, found["ratio"]]]))
    print(f"the full search's winner is among the finalists in {found['kept']} of {found['rounds']}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
