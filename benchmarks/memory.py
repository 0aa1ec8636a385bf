"""Peak memory of three arms on SmolLM2-135M: three processes at once against one gang of three, and of a gang by size.

Needs `make smollm2`. Phantom films, the tiny encoder, projectors linear, mlp and qformer_lite, a few steps each. Memory
is the sum over the sweep's processes of their proportional share (PSS), sampled; pages that they share count once.

python benchmarks/memory.py [--steps 20] [--json FILE]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from r2g.core.tables import table

SMALL = ["data.train=64", "data.val=8", "data.test=8", "train.evals=1", "train.eval_studies=8", "score=quick"]
SMALL += ["train.batch_size=8", "train.micro_batch=8", "train.warmup_steps=2", "decode.max_tokens=8"]
PROJECTORS = ("linear", "mlp", "qformer_lite")


def held(root: int) -> float:
    """MB of a process and all below it: pages that they share count once."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
    return total / 2**20


def peak(launcher: list[str], arms: int, steps: int, cache: Path) -> float:
    """The largest sum seen while the sweep ran, in MB."""
    with tempfile.TemporaryDirectory() as outputs:
        words = [f"projector={','.join(PROJECTORS[:arms])}", "llm=smollm2", *SMALL, f"train.steps={steps}"]
        words += ["track=none", f"paths.outputs={outputs}", f"paths.cache={cache}", *launcher]
        log = Path(outputs) / "log"
        with log.open("w") as file:
            running = subprocess.Popen(
                [sys.executable, "-m", "r2g.run", "-m", *words], stdout=file, stderr=file
            )
            highest = 0.0
            while running.poll() is None:
                highest = max(highest, held(running.pid))
                time.sleep(0.1)
        if running.returncode:
            sys.exit(log.read_text()[-3000:])
    return highest


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    gang, processes = ["hydra/launcher=gang"], ["hydra/launcher=process", "hydra.launcher.parallel=3"]
    with tempfile.TemporaryDirectory() as place:
        cache = Path(place)
        peak(gang, 1, 2, cache)  # draws the films and converts the llm
        found: dict[str, Any] = {"processes": peak(processes, 3, chosen.steps, cache), "gangs": []}
        print(f"3 processes at once: {found['processes']:.0f} MB", flush=True)
        for arms in (1, 2, 3):
            found["gangs"].append(peak(gang, arms, chosen.steps, cache))
            print(f"a gang of {arms}: {found['gangs'][-1]:.0f} MB", flush=True)
    found["ratio"] = found["processes"] / found["gangs"][-1]
    rows = [["3 processes at once", found["processes"]]]
    rows += [[f"a gang of {n}", mb] for n, mb in enumerate(found["gangs"], 1)]
    print(table(["", "peak, MB"], rows))
    print(f"processes / gang of 3: {found['ratio']:.2f}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
