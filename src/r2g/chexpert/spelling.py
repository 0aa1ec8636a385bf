"""Misspelt words: a list of common ones, and a small edit distance for long words."""

from functools import cache, lru_cache
from typing import Any

from r2g.chexpert.lexicon import read

_ONE_EDIT, _TWO_EDITS = 8, 11


@lru_cache(maxsize=50_000)
def corrected(word: str) -> str:
    """The word, or the one of our vocabulary that it was meant to be.

    Words of 8 letters may be one edit away (a swap of neighbours is one), words of 11 two. The first letter has
    to be right, and real words that happen to be near ours are listed as such.
    """
    spelling = _lists()
    if word in spelling["common"]:
        return spelling["common"][word]
    if len(word) < _ONE_EDIT - 1 or word in spelling["real"] or word in spelling["words"]:
        return word
    for known in spelling["words"]:
        allowed = 2 if len(known) >= _TWO_EDITS else 1
        if (
            known[0] == word[0]
            and abs(len(known) - len(word)) <= allowed
            and distance(word, known) <= allowed
        ):
            return known
    return word


def distance(a: str, b: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours between two words."""
    before, last = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


@cache
def _lists() -> Any:
    content = read("spelling.yaml")
    return {"common": content["common"], "words": tuple(content["words"]), "real": frozenset(content["real"])}
