"""The n-grams of scored reports as keyed hashes: enough for corpus BLEU and CIDEr of any resample, and no text."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from r2g.core.types import Prediction

ORDERS = 4
FILE = "ngrams.npz"
_SCHEMA = 1
_MATRICES = ("hypothesis", "reference")
# Odd constants with well spread bits (splitmix64's), for mixing words into n-grams.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class NGrams:
    """How often each n-gram of 1 to 4 words occurs in each report, as written and as wanted.

    `references` is a digest of ids and references. The hashes are keyed by those very texts, so nobody without them
    can look words up in the file, and two files can be read together if, and only if, this digest is the same.
    """

    ids: tuple[str, ...]
    references: str
    hashes: np.ndarray  # uint64 [ngram], ascending
    orders: np.ndarray  # uint8 [ngram], how many words
    hypothesis: Any  # scipy csr int32 [report, ngram]
    reference: Any  # the same

    def __len__(self) -> int:
        return len(self.ids)


def count(predictions: Sequence[Prediction]) -> NGrams:
    """Count the n-grams of all reports; words are what whitespace separates. References must be the scored ones."""
    key = _key(predictions)
    hasher: dict[str, int] = {}
    written = _ngrams([p.hypothesis for p in predictions], key, hasher)
    wanted = _ngrams([p.reference for p in predictions], key, hasher)
    hashes, column = np.unique(np.concatenate([written[1], wanted[1]]), return_inverse=True)
    orders = np.zeros(len(hashes), np.uint8)
    orders[column] = np.concatenate([written[2], wanted[2]])
    split, shape = len(written[1]), (len(predictions), len(hashes))
    return NGrams(
        ids=tuple(p.id for p in predictions),
        references=digest(predictions),
        hashes=hashes,
        orders=orders,
        hypothesis=_matrix(written[0], column[:split], shape),
        reference=_matrix(wanted[0], column[split:], shape),
    )


def digest(predictions: Sequence[Prediction]) -> str:
    """16 hex digits over ids and references, whatever their order; nothing of a text can be read from it."""
    return hashlib.blake2b(_key(predictions), digest_size=8).hexdigest()


def save(path: Path, ngrams: NGrams) -> None:
    """Write the file whole or not at all."""
    arrays: dict[str, Any] = {
        "schema": np.array(_SCHEMA),
        "ids": np.array(ngrams.ids, dtype=np.str_),
        "references": np.array(ngrams.references),
        "hashes": ngrams.hashes,
        "orders": ngrams.orders,
    }
    for name in _MATRICES:
        matrix = getattr(ngrams, name)
        small = np.uint16 if matrix.nnz == 0 or matrix.data.max() < 2**16 else np.int32
        arrays |= {
            f"{name}_indices": matrix.indices.astype(np.int32),
            f"{name}_counts": matrix.data.astype(small),
        }
        arrays[f"{name}_indptr"] = matrix.indptr.astype(np.int64)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        np.savez_compressed(file, **arrays)
    draft.replace(path)


def load(path: Path) -> NGrams:
    """Read what `save` wrote. Raises ValueError when the file is of another schema, OSError when it isn't there."""
    with np.load(path, allow_pickle=False) as file:
        if "schema" not in file or int(file["schema"]) != _SCHEMA:
            raise ValueError(f"{path} is not an n-gram file of schema {_SCHEMA}")
        ids = tuple(str(i) for i in file["ids"])
        shape = (len(ids), len(file["hashes"]))
        parts = [tuple(file[f"{n}_{what}"] for what in ("counts", "indices", "indptr")) for n in _MATRICES]
        matrices = [sparse.csr_array((c.astype(np.int32), i, p), shape=shape) for c, i, p in parts]
        return NGrams(ids, str(file["references"]), file["hashes"], file["orders"], *matrices)


def _key(predictions: Sequence[Prediction]) -> bytes:
    content = "".join(sorted(f"{len(p.id)},{len(p.reference)},{p.id}{p.reference}" for p in predictions))
    return hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=32).digest()


def _ngrams(
    texts: Sequence[str], key: bytes, hasher: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Report, hash and order of every n-gram of all texts; `hasher` remembers the words seen so far."""
    split = [text.split() for text in texts]
    for word in {word for words in split for word in words}.difference(hasher):
        digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8, key=key).digest()
        hasher[word] = int.from_bytes(digest, "little")
    words = np.array([hasher[word] for words in split for word in words], dtype=np.uint64)
    report = np.repeat(np.arange(len(split)), [len(words) for words in split])
    chain = np.zeros(len(words), np.uint64)
    found: list[tuple[np.ndarray, ...]] = []
    for order in range(1, ORDERS + 1):
        kept = max(0, len(words) - order + 1)
        chain = _mix(chain[:kept] * _STEP + words[order - 1 :])
        inside = report[:kept] == report[order - 1 :]  # the n-gram doesn't run into the next report
        found.append((report[:kept][inside], chain[inside], np.full(int(inside.sum()), order, np.uint8)))
    rows, hashes, orders = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, hashes, orders


def _mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finish: each bit of the input moves about half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))


def _matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Any:
    ones = np.ones(len(rows), np.int32)
    matrix = sparse.csr_array((ones, (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    return matrix
