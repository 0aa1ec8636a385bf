"""METEOR 1.5 from what a report and its reference have in common (Denkowski & Lavie 2014, section 2).

METEOR of a corpus is that of the summed statistics, so the columns here are all that any draw of the reports needs.
"""

import numpy as np

# Per report; "content" and "function" words are weighted, matches also by how they were found (exact, stem, ...).
COLUMNS = (
    "meteor_length",  # of the report, in weighted words
    "meteor_reference_length",
    "meteor_matched",  # the report's words that the reference has, weighted
    "meteor_reference_matched",
    "meteor_words",  # the matched words of both, unweighted and halved
    "meteor_chunks",  # runs of matched words in the same order in both; 0, as the jar sums them, where all is one run
)
FIELDS = 23
# The jar's own values for English, task "rank".
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_MODULES = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


def columns(said: np.ndarray) -> np.ndarray:
    """[report, column] of the jar's statistics [report, 23].

    These are: words of report and reference, function words of both; for each of the four modules the matched content
    words of both, then the function words; chunks; matched words of both.
    """
    lengths, function = said[:, :2], said[:, 2:4]
    matches = said[:, 4:20].reshape(len(said), 4, 2, 2)  # [report, module, content or function, side]
    matched = _weighted(*(np.einsum("rms,m->rs", matches[:, :, kind], _MODULES) for kind in (0, 1)))
    whole = (lengths == matches.sum(axis=(1, 2))).all(axis=1, keepdims=True)
    chunks, words = said[:, 20:21], said[:, 21:23].mean(axis=1, keepdims=True)
    length = _weighted(lengths - function, function)
    return np.concatenate([length, matched, words, np.where(whole & (chunks == 1), 0.0, chunks)], axis=1)


def of(sums: np.ndarray) -> np.ndarray:
    """METEOR [draw] of summed columns [draw, column]; 0 where nothing matches."""
    length, reference_length, matched, reference_matched, words, chunks = sums.T
    precision, recall = _share(matched, length), _share(reference_matched, reference_length)
    mean = _share(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    return mean * (1 - _GAMMA * _share(chunks, words) ** _BETA)


def _weighted(content: np.ndarray, function: np.ndarray) -> np.ndarray:
    return _DELTA * content + (1 - _DELTA) * function


def _share(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
