"""Scores of many draws of the reports, as written and shuffled: BLEU and CIDEr of all runs at once, labels by run."""

from collections.abc import Sequence

import numpy as np

from r2g.compare import blind, scores
from r2g.compare.runs import Run
from r2g.core.ngrams import NGrams
from r2g.core.resample import Resampler


class Corpora:
    """BLEU and CIDEr of every run with n-grams, as written and shuffled, on the same draws."""

    def __init__(self, runs: Sequence[Run], weights: np.ndarray) -> None:
        self._weights = weights
        self._systems: dict[tuple[str, bool], NGrams] = {}
        for run in runs:
            if run.ngrams is not None:
                self._systems[run.id, False] = run.ngrams
                self._systems[run.id, True] = blind.shuffle(run, run.ngrams)
        self._ready = Resampler(list(self._systems.values())) if self._systems else None
        self._cider: dict[tuple[str, bool], np.ndarray] = {}
        self._bleu: dict[tuple[str, bool], np.ndarray] = {}

    def cider(self, run: Run, shuffled: bool = False) -> np.ndarray:
        """CIDEr of each draw."""
        if not self._cider and self._ready is not None:
            values = self._ready.cider(self._weights)
            self._cider = {key: values[:, i] for i, key in enumerate(self._systems)}
        return self._cider[run.id, shuffled]

    def honest_cider(self, run: Run) -> np.ndarray:
        """CIDEr of each draw, the first of which must be the record's."""
        values = self.cider(run)
        scores.require_honest(scores.CIDER, run, float(values[0]))
        return values

    def score(self, name: str, run: Run, shuffled: bool) -> np.ndarray:
        """CIDEr, BLEU or a score of labels of each draw."""
        if name == scores.CIDER:
            return self.cider(run, shuffled)
        if (labels := scores.counted(name, run)) is not None:
            return scores.Linear(labels, labels.matrix(run, shuffled)).drawn(self._weights)
        if not self._bleu and self._ready is not None:
            values = self._ready.bleu(self._weights)
            self._bleu = {key: values[:, i] for i, key in enumerate(self._systems)}
        return self._bleu[run.id, shuffled][:, int(name[-1]) - 1]
