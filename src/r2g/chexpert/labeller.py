"""A report's 14 labels: every mention's status, and the strongest of them for each observation."""

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

from r2g.chexpert.lexicon import OBSERVATIONS, OTHER, observations
from r2g.chexpert.scope import Span, find_cues, status
from r2g.chexpert.text import sentences


class Label(StrEnum):
    """What a report says of an observation; the order is that in which one wins over the next."""

    positive = "positive"
    uncertain = "uncertain"
    negative = "negative"
    blank = "blank"


_RANK = {label: rank for rank, label in enumerate(Label)}
_PARENTS = {
    "Lung Opacity": ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"),
    "Enlarged Cardiomediastinum": ("Cardiomegaly",),
}


def label(report: str, hierarchy: bool = False) -> dict[str, Label]:
    """The label of each of the 14 observations.

    A positive mention wins over an uncertain one, that over a negative one. No Finding is positive when nothing
    but support devices is positive or uncertain, and blank otherwise. `hierarchy` also makes what includes a
    positive observation positive (Pneumonia: Lung Opacity), which the observations' mentions alone don't.
    """
    marks = dict.fromkeys((*OBSERVATIONS, OTHER), Label.blank)
    for sentence in sentences(report):
        for name, mark in read(sentence):
            marks[name] = _strongest((marks[name], mark))
    if hierarchy:
        for name, parts in _PARENTS.items():
            if any(marks[part] is Label.positive for part in parts):
                marks[name] = Label.positive
    stated = {name for name, mark in marks.items() if mark in (Label.positive, Label.uncertain)}
    if not stated - {"Support Devices"}:
        marks["No Finding"] = Label.positive
    del marks[OTHER]
    return marks


@lru_cache(maxsize=50_000)
def read(sentence: str) -> tuple[tuple[str, Label], ...]:
    """What one clean sentence says: an observation and a label for each mention."""
    states: list[tuple[str, Label]] = []
    mentions: list[Span] = []
    doubtful: set[Span] = set()
    for observation in observations():
        absent = _spans(observation.absent, sentence)
        states += [(observation.name, Label.negative)] * bool(absent)
        doubted = _free(_spans(observation.uncertain, sentence), absent)
        ignored = _spans(observation.ignore, sentence)
        stated = _free(_spans(observation.present, sentence), absent + doubted + ignored)
        doubtful |= {Span(observation.name, *span) for span in doubted}
        mentions += [Span(observation.name, *span) for span in doubted + stated]
    found = find_cues(sentence) if mentions else []
    for mention in mentions:
        mark = status(sentence, found, mentions, mention)
        if mark == "positive" and mention in doubtful:
            mark = "uncertain"
        if mark != "hypothetical":
            states.append((mention.kind, Label(mark)))
    return tuple(states)


def _spans(pattern: re.Pattern[str] | None, sentence: str) -> list[tuple[int, int]]:
    return [match.span() for match in pattern.finditer(sentence)] if pattern else []


def _free(spans: list[tuple[int, int]], taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that overlap none that is taken."""
    return [span for span in spans if not any(a < span[1] and span[0] < b for a, b in taken)]


def _strongest(marks: Iterable[Label]) -> Label:
    return min(marks, key=_RANK.__getitem__)
