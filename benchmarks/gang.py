"""Paired runs: a sweep in processes of its own against one gang, and four arms' reports one by one or together.

The sweep: 3 projectors x 3 seeds, shallow, tiny models, phantom films. Both ways find films drawn and patches cached.
Decoding: 4 arms, 8 studies each, every report of the full length.

python benchmarks/gang.py [--rounds 5] [--steps 60] [--seeds 3] [--decode-only] [--json FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from r2g import model, resident, session, together
from r2g.config.compose import compose
from r2g.core.tables import table
from r2g.model import Batch, ReportGenerator

PROJECTORS = "projector=linear,mlp,qformer_lite"
SMALL = ["data.train=512", "data.val=50", "data.test=100", "train.evals=3", "train.eval_studies=50"]
ARMS, EACH, LONGEST = 4, 8, 100


def sweep(launcher: str, steps: int, cache: Path, words: list[str]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of a multirun by this launcher, and the records that it left."""
    with tempfile.TemporaryDirectory() as outputs:
        call = [sys.executable, "-m", "r2g.run", "-m", *words, *SMALL, f"train.steps={steps}", "track=none"]
        call += [f"hydra/launcher={launcher}", f"paths.outputs={outputs}", f"paths.cache={cache}"]
        started = time.perf_counter()
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(done.stderr[-3000:] + done.stdout[-2000:])
        found = Path(outputs).glob("run/*/record.json")
        return seconds, [json.loads(path.read_text()) for path in found]


def paired_sweeps(rounds: int, steps: int, seeds: int) -> dict[str, Any]:
    """Both launchers, turn by turn; the first pair only fills the cache."""
    seconds: dict[str, list[float]] = {"process": [], "gang": []}
    training: dict[str, list[float]] = {"process": [], "gang": []}
    words = [PROJECTORS, f"seed={','.join(map(str, range(seeds)))}"]
    with tempfile.TemporaryDirectory() as cache:
        sweep("process", 2, Path(cache), ["projector=linear", "seed=0"])
        for _ in range(rounds):
            for launcher, times in seconds.items():
                took, records = sweep(launcher, steps, Path(cache), words)
                each = [r["training"]["seconds"] for r in records]
                times.append(took)
                training[launcher].append(sum(each) if launcher == "process" else max(each))
                print(f"{launcher}: {took:.1f} s, of which training {training[launcher][-1]:.1f}", flush=True)
    ratios = [a / b for a, b in zip(seconds["process"], seconds["gang"], strict=True)]
    return {"seconds": seconds, "training": training, "ratio": statistics.median(ratios)}


def arms() -> tuple[list[ReportGenerator], list[Batch]]:
    """Four arms on one resident llm, and studies for each."""
    config = compose(["track=none", f"decode.max_tokens={LONGEST}", f"decode.min_tokens={LONGEST}"])
    device, dtype = torch.device("cpu"), torch.float32
    shared = resident.reside(config, device, dtype)
    models, films = [], []
    for seed in range(ARMS):
        whole = model.assemble(config, device, dtype, resident.view(shared.llm))
        session.tune(whole, config)
        resident.settle(whole, config, shared)
        models.append(whole.eval())
        films.append(batch(whole, seed))
    return models, films


def batch(whole: ReportGenerator, seed: int) -> Batch:
    """Random films."""
    told: Any = whole.encoder.preprocess
    numbers = torch.Generator().manual_seed(seed)
    shape = (EACH, 1, told.channels, told.size, told.size)
    return Batch(
        ids=tuple(map(str, range(EACH))),
        images=torch.randint(0, 256, shape, generator=numbers).to(torch.uint8),
        view_mask=torch.ones(EACH, 1, dtype=torch.bool),
        films=torch.arange(EACH),
        tokens=torch.zeros(EACH, 1, dtype=torch.long),
        targets=torch.zeros(0, dtype=torch.long),
    )


def paired_decoding(rounds: int) -> dict[str, Any]:
    """The same reports, one arm after the other and all in one go."""
    decode = compose([f"decode.max_tokens={LONGEST}", f"decode.min_tokens={LONGEST}"]).decode
    models, films = arms()
    apart: list[float] = []
    joint: list[float] = []
    for i in range(rounds + 1):  # the first round warms up
        started = time.perf_counter()
        one = [m.generate(b, decode) for m, b in zip(models, films, strict=True)]
        middle = time.perf_counter()
        other = together.reports(models, films, decode)
        ended = time.perf_counter()
        if one != other:
            sys.exit("the reports differ")
        if i:
            apart.append(middle - started)
            joint.append(ended - middle)
    ratios = [a / b for a, b in zip(apart, joint, strict=True)]
    return {"apart": apart, "joint": joint, "ratio": statistics.median(ratios)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--decode-only", action="store_true")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    found = {"decoding": paired_decoding(chosen.rounds)}
    if not chosen.decode_only:
        found["sweep"] = paired_sweeps(chosen.rounds, chosen.steps, chosen.seeds)
    rows: list[list[object]] = []
    d = found["decoding"]
    rows.append(
        [f"{ARMS} arms x {EACH} reports", *(statistics.median(d[k]) for k in ("apart", "joint")), d["ratio"]]
    )
    if "sweep" in found:
        s = found["sweep"]["seconds"]
        t = found["sweep"]["training"]
        rows.append(
            [
                f"sweep of {3 * chosen.seeds}",
                statistics.median(s["process"]),
                statistics.median(s["gang"]),
                found["sweep"]["ratio"],
            ]
        )
        medians = [statistics.median(t[k]) for k in ("process", "gang")]
        rows.append(["of which training", *medians, medians[0] / medians[1]])
    print(table(["", "apart, s", "gang, s", "times"], rows))
    if chosen.json:
        chosen.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
