"""What the cache saves: a shallow epoch without and with kept patches, and a folder of large films read twice.

The epoch: the second one of a run, on a Swin-B-shaped encoder at 224 px and a Llama of 58 M (random weights, made on
the spot), phantom films of one view, no evaluation counted. The films: grey JPEGs of 2500 x 3000, as an encoder that
learns reads them.

python benchmarks/cache.py [--rounds 3] [--films 32] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, SwinConfig, SwinModel

from published import llama
from r2g.core import keys
from r2g.core.store import Store
from r2g.core.tables import table
from r2g.data import decoded
from r2g.frozen import FromStore

HEIGHT, WIDTH, SIDE = 3000, 2500, 224
STUDIES, BATCH = 64, 8


def models(folder: Path) -> list[str]:
    """Write both directories; gives the words that name them."""
    shape: dict[str, Any] = {
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
        "window_size": 7,
    }
    SwinModel(SwinConfig(**shape), add_pooling_layer=False).save_pretrained(folder / "swin")
    llama().save_pretrained(folder / "llama")
    import r2g

    ours = Path(r2g.__file__).parent / "weights" / "tiny_llm"
    AutoTokenizer.from_pretrained(ours).save_pretrained(folder / "llama")
    named = [f"encoder.source={folder / 'swin'}", f"llm.source={folder / 'llama'}"]
    return ["encoder=transformers", "llm=causal_lm", *named]


def epoch(named: list[str], cache: str, folder: Path) -> float:
    """Seconds of a run's second epoch."""
    with tempfile.TemporaryDirectory() as outputs:
        small = [f"data.train={STUDIES}", "data.val=8", "data.test=8", "train.epochs=2", "train.steps=null"]
        small += [f"train.batch_size={BATCH}", f"train.micro_batch={BATCH}", "train.evals=1"]
        small += ["train.eval_studies=8", "train.target_loss=null", "decode.max_tokens=8", "score=quick"]
        call = [sys.executable, "-m", "r2g.run", *named, *small, "track=none", f"cache={cache}"]
        call += [
            f"paths.outputs={outputs}",
            f"paths.cache={folder}",
            "train.select=[{score: loss, weight: -1.0}]",
        ]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        (curve,) = Path(outputs).glob("*/*/curve.jsonl")
        rows = [row for row in map(json.loads, curve.read_text().splitlines()) if keys.TRAIN_LOSS in row]
    steps = STUDIES // BATCH
    at = {row[keys.STEP]: row[keys.SECONDS] for row in rows}
    return at[2 * steps] - at[steps]


def epochs(rounds: int) -> dict[str, Any]:
    """Turn by turn; the first run with a cache fills it and isn't counted."""
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        named = models(folder)
        epoch(named, "default", folder / "cache")
        for _ in range(rounds):
            seconds["without"].append(epoch(named, "none", folder / "cache"))
            seconds["with"].append(epoch(named, "default", folder / "cache"))
    return told(seconds)


def jpegs(rounds: int, count: int) -> dict[str, Any]:
    """Seconds to read all films: decoded and resized, and from the store."""
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths = [draw(folder / f"{i}.jpg", i) for i in range(count)]
        read = partial(decoded, size=SIDE, channels=3)
        store = Store(folder / "films", (1, SIDE, SIDE), torch.uint8)
        with store.writer() as writer:
            for path in paths:
                writer.add(path, read(path)[:1])
        kept = FromStore((store,), {path: path for path in paths}, channels=3)
        for _ in range(rounds):
            for way, reader in (("without", read), ("with", kept)):
                started = time.perf_counter()
                for path in paths:
                    reader(path).sum()  # so that mapped rows are really read
                seconds[way].append(time.perf_counter() - started)
    return told(seconds)


def draw(path: Path, seed: int) -> str:
    """A large grey film: soft shapes and grain, so that a JPEG has as much to decode as a real one."""
    numbers = np.random.default_rng(seed)
    soft = Image.fromarray(numbers.integers(0, 256, (30, 25), dtype=np.uint8)).resize((WIDTH, HEIGHT))
    grain = numbers.normal(0, 6, (HEIGHT, WIDTH))
    Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return str(path)


def told(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and the median ratio of the pairs."""
    ratios = [a / b for a, b in zip(seconds["without"], seconds["with"], strict=True)]
    return {way: statistics.median(s) for way, s in seconds.items()} | {"ratio": statistics.median(ratios)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--films", type=int, default=32)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = {
        f"shallow epoch of {STUDIES} studies": epochs(chosen.rounds),
        f"{chosen.films} JPEGs": jpegs(chosen.rounds, chosen.films),
    }
    print(
        table(["", "without, s", "with, s", "times"], [[name, *row.values()] for name, row in found.items()])
    )
    if chosen.json:
        chosen.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
