"""Corpus BLEU and CIDEr of many resamples at once, from counted n-grams, exactly as a scorer would give them.

A resample is a row of weights: how often each report was drawn. Its CIDEr takes the document frequencies from the
references that were drawn, each as often as it was, and as many documents as draws: what the scorer computes when it is
handed the drawn reports. BLEU is that of the summed counts.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import sparse

from r2g.core.ngrams import ORDERS, NGrams

_BLOCK = 8  # resamples in a piece of work: as many doubles as a cache line holds
_SIGMA = 6.0  # CIDEr-D's
_TINY, _SMALL = 1e-15, 1e-9  # BLEU's guards against 0/0, as in the field's scorer


def bootstrap(reports: int, resamples: int, seed: int) -> np.ndarray:
    """Weights [resample, report]: each resample draws as many reports as there are, with replacement."""
    drawn = np.random.default_rng(seed).integers(reports, size=(resamples, reports))
    drawn += np.arange(resamples)[:, None] * reports
    counts = np.bincount(drawn.ravel(), minlength=resamples * reports)
    return counts.reshape(resamples, reports).astype(np.int32)


def others(reports: int, seed: int) -> np.ndarray:
    """For each report, the one whose text it gets in the control `shuffled`; of two or more, none keeps its own."""
    order = np.random.default_rng(seed).permutation(reports)
    source = np.empty(reports, np.int64)
    source[order] = np.roll(order, 1)
    return source


class Resampler:
    """Systems that wrote reports for the same references, ready to be scored on any draw of the reports.

    Raises ValueError when their ids or references differ: such scores can't be paired.
    """

    def __init__(self, systems: Sequence[NGrams]) -> None:
        first = systems[0]
        if any(s.references != first.references or s.ids != first.ids for s in systems[1:]):
            raise ValueError(
                "these n-grams are of other reports, another order, or references treated otherwise"
            )
        self.reports = len(first)
        kept = np.flatnonzero(np.diff(first.reference.tocsc().indptr))
        reference, group, documents = first.reference[:, kept], *_group(first.reference[:, kept])
        columns = _Columns(first.hashes[kept], first.orders[kept], group, documents.shape[0])
        self._documents = documents
        self._reference = columns.spread(reference.multiply(reference))
        self._systems = [_System(system, reference, columns) for system in systems]

    def bleu(self, weights: np.ndarray) -> np.ndarray:
        """BLEU-1 to -4 [resample, system, order]."""
        return np.stack([bleu_of(weights @ system.counts) for system in self._systems], axis=1)

    def cider(self, weights: np.ndarray, threads: int | None = None) -> np.ndarray:
        """CIDEr [resample, system], on all cores unless `threads` says otherwise."""
        weights = np.ascontiguousarray(weights, dtype=np.int32)
        if weights.ndim != 2 or weights.shape[1] != self.reports or (weights.sum(axis=1) < 1).any():
            raise ValueError(f"weights must be [resample, {self.reports}], with a draw in every row")
        blocks = [weights[start : start + _BLOCK] for start in range(0, len(weights), _BLOCK)]
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            return np.concatenate(list(pool.map(self._cider, blocks)))

    def _cider(self, weights: np.ndarray) -> np.ndarray:
        draws = weights.sum(axis=1, dtype=np.int64)
        # One table serves both logarithms, so that a word of every document weighs exactly nothing.
        logs = np.log(np.maximum(np.arange(draws.max() + 1), 1.0))
        squares = logs[self._documents @ weights.T]
        np.subtract(logs[draws], squares, out=squares)
        np.square(squares, out=squares)  # of the weight of each group's n-grams, [group, resample]
        wanted = self._reference @ squares
        unseen = logs[draws] ** 2
        share = weights.T / draws
        values = [(s.cider(squares, wanted, unseen) * share).sum(axis=0) for s in self._systems]
        return np.stack(values, axis=1)


class _Columns:
    """The references' n-grams, and the group of each: n-grams of the same documents weigh the same in any draw."""

    def __init__(self, hashes: np.ndarray, orders: np.ndarray, group: np.ndarray, groups: int) -> None:
        self.hashes, self.orders, self.group, self.groups = hashes, orders, group, groups

    def spread(self, values: Any) -> Any:
        """[report, ngram] summed to [report and order, group]."""
        values = sparse.coo_array(values)
        rows = values.row.astype(np.int64) * ORDERS + self.orders[values.col] - 1
        shape = (values.shape[0] * ORDERS, self.groups)
        return sparse.csr_array((values.data.astype(float), (rows, self.group[values.col])), shape=shape)

    def align(self, system: NGrams) -> tuple[Any, Any]:
        """A system's counts in the references' columns, and those of n-grams that no reference has."""
        place = np.searchsorted(self.hashes, system.hashes).clip(max=max(0, len(self.hashes) - 1))
        known = self.hashes[place] == system.hashes if len(self.hashes) else np.zeros(len(place), bool)
        inside = system.hypothesis[:, known].tocoo()
        shape = (inside.shape[0], len(self.hashes))
        moved = sparse.csr_array((inside.data, (inside.row, place[known][inside.col])), shape=shape)
        return moved, system.hypothesis[:, ~known]


class _System:
    """What one system's reports bring to the scores, apart from the weights of the n-grams."""

    def __init__(self, system: NGrams, reference: Any, columns: _Columns) -> None:
        inside, outside = columns.align(system)
        matched = inside.minimum(reference)
        written, wanted = (_per_order(m, system.orders) for m in (system.hypothesis, system.reference))
        correct = _per_order(matched, columns.orders)
        self.counts = np.concatenate([correct, written, wanted[:, :1]], axis=1)
        self._matched = columns.spread(matched.multiply(reference))
        self._written = columns.spread(inside.multiply(inside))
        unseen = sparse.coo_array(outside.multiply(outside))
        orders = system.orders[~np.isin(system.hashes, columns.hashes)]
        self._unseen = _per_order(unseen, orders).reshape(-1, 1)
        # The field's scorer measures length in pairs of words.
        self._penalty = np.exp(-((written[:, 1:2] - wanted[:, 1:2]) ** 2) / (2 * _SIGMA**2))

    def cider(self, squares: np.ndarray, wanted: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        """CIDEr [report, resample]: cosines with clipped counts, meaned over the orders."""
        norms = self._written @ squares
        norms += self._unseen * unseen
        norms *= wanted
        cosine = self._matched @ squares
        np.sqrt(norms, out=norms)
        np.divide(cosine, norms, out=cosine, where=norms > 0)  # where it is 0, so is the cosine's numerator
        return cosine.reshape(-1, ORDERS, squares.shape[1]).sum(axis=1) * (10 / ORDERS) * self._penalty


def _group(reference: Any) -> tuple[np.ndarray, Any]:
    """Each n-gram's group, and [group, report]: 1 where the reference has the group's n-grams.

    Equal sets of documents are found by a sum of 64 random bits a document.
    """
    by_column = reference.tocsc()
    marks = np.random.default_rng(0).integers(2**64, size=reference.shape[0], dtype=np.uint64)
    if reference.shape[1] == 0:
        return np.zeros(0, np.int64), sparse.csr_array((0, reference.shape[0]), dtype=np.int32)
    sums = np.add.reduceat(marks[by_column.indices], by_column.indptr[:-1])
    _, one, group = np.unique(sums, return_index=True, return_inverse=True)
    documents = by_column[:, one].T.tocsr()
    documents.data = np.ones(documents.nnz, np.int32)
    return group, documents


def _per_order(counts: Any, orders: np.ndarray) -> np.ndarray:
    """[report, ngram] summed to [report, order]."""
    return np.stack([counts @ (orders == n + 1).astype(float) for n in range(ORDERS)], axis=1)


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """BLEU-1 to -4 [resample, order] of summed counts: correct and guessed by order, and the references' words."""
    correct, guessed = sums[:, :ORDERS], sums[:, ORDERS : 2 * ORDERS]
    precision = np.cumprod((correct + _TINY) / (guessed + _SMALL), axis=1)
    values = precision ** (1 / np.arange(1, ORDERS + 1))
    ratio = (guessed[:, 0] + _TINY) / (sums[:, -1] + _SMALL)
    return values * np.exp(np.minimum(0, 1 - 1 / ratio))[:, None]
