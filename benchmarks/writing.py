"""Writing reports with the cache of keys and values of transformers, copied whole for every token, and with ours.

The llm that ships with the package, greedy, 60 tokens after a prompt of 40; rows of one run, and of a gang's many arms.

python benchmarks/writing.py [--rounds 3] [--rows 64 300 1350] [--json FILE]
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from r2g import model
from r2g.config.compose import compose
from r2g.config.schema import DecodeSettings
from r2g.core.tables import table
from r2g.llms.base import LanguageModel


def written(llm: LanguageModel, prefix: Tensor, decode: DecodeSettings, ours: bool) -> tuple[float, Tensor]:
    """Seconds, and the tokens."""
    started = time.perf_counter()
    if ours:
        tokens = model.new_tokens(llm, prefix, None, decode)
    else:
        with mock.patch.object(model, "roomy", lambda cache, _: cache):
            tokens = model.new_tokens(llm, prefix, None, decode)
    return time.perf_counter() - started, tokens


def paired(rows: int, rounds: int) -> dict[str, Any]:
    """Both ways, turn by turn; raises RuntimeError if they write different tokens."""
    config = compose(["llm=tiny"])
    llm = config.llm.build(torch.device("cpu"), torch.float32)
    decode = replace(config.decode, min_tokens=60, max_tokens=60)
    prefix = torch.randn(rows, 40, llm.network.config.hidden_size, generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
    for number in range(rounds + 1):
        (theirs, one), (ours, other) = (written(llm, 0.02 * prefix, decode, way) for way in (False, True))
        if not torch.equal(one, other):
            raise RuntimeError(f"with {rows} rows, the two caches led to different tokens")
        if number:  # the first pair warms up
            seconds["theirs"].append(theirs)
            seconds["ours"].append(ours)
    ratios = [a / b for a, b in zip(seconds["theirs"], seconds["ours"], strict=True)]
    return {"rows": rows, "seconds": seconds, "ratio": statistics.median(ratios)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 300, 1350])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = [paired(rows, chosen.rounds) for rows in chosen.rows]
    medians = [
        [f["rows"], *(statistics.median(f["seconds"][way]) for way in ("theirs", "ours")), f["ratio"]]
        for f in found
    ]
    print(table(["rows", "copied, s", "in place, s", "times"], medians))
    if chosen.json:
        chosen.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
