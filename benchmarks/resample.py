"""Seconds for paired resamples of corpus BLEU and CIDEr: python benchmarks/resample.py [resamples] [reports]."""

import sys
import time

import numpy as np

from r2g.core import ngrams, resample
from r2g.core.types import Prediction

_WORDS = 2500


def main(resamples: int = 1000, reports: int = 3858) -> None:
    """Two systems on made-up reports: stock sentences with changing words, as radiologists write."""
    draw = np.random.default_rng(0)
    wanted = [_report(draw) for _ in range(reports)]
    systems = []
    started = time.perf_counter()
    for _ in range(2):
        written = [_changed(text, draw) for text in wanted]
        pairs = zip(wanted, written, strict=True)
        systems.append(ngrams.count([Prediction(str(i), ref, text) for i, (ref, text) in enumerate(pairs)]))
    print(f"two systems of {reports} reports, {np.mean([len(t.split()) for t in wanted]):.0f} words each")
    print(f"texts made and counted  {time.perf_counter() - started:6.2f} s")
    started = time.perf_counter()
    weights = resample.bootstrap(reports, resamples, seed=0)
    ready = resample.Resampler(systems)
    print(f"draws and preparation   {time.perf_counter() - started:6.2f} s")
    again = time.perf_counter()
    bleu, cider = ready.bleu(weights), ready.cider(weights)
    print(f"{resamples} paired resamples    {time.perf_counter() - again:6.2f} s")
    print(f"in all                  {time.perf_counter() - started:6.2f} s")
    print(f"BLEU-4 {bleu[:, :, 3].mean(axis=0)}, CIDEr {cider.mean(axis=0)}")


def _report(draw: np.random.Generator) -> str:
    """Five to nine sentences out of a long-tailed stock of 4,000, some of their words changed."""
    picked = np.minimum(draw.zipf(1.25, size=draw.integers(5, 10)) - 1, 3999)
    words: list[str] = []
    for sentence in picked:
        fixed = np.random.default_rng(int(sentence))
        ranks = np.minimum(fixed.zipf(1.3, size=fixed.integers(5, 12)), _WORDS)
        changed = draw.random(len(ranks)) < 0.08
        ranks = np.where(changed, draw.integers(1, _WORDS, len(ranks)), ranks)
        words += [f"w{rank}" for rank in ranks] + ["."]
    return " ".join(words)


def _changed(text: str, draw: np.random.Generator) -> str:
    """Half of the sentences kept, the rest from another report."""
    mine, other = text.split(" . "), _report(draw).split(" . ")
    return " . ".join(s if draw.random() < 0.5 else other[i % len(other)] for i, s in enumerate(mine))


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:3]))
