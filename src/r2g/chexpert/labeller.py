"""A report's 14 labels: every mention's status, and the strongest of them for each observation."""

from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

from r2g.chexpert.lexicon import OBSERVATIONS, OTHER, Observation, observations
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
    for observation in observations():
        settled = _settled(observation, sentence)
        states += [(observation.name, mark) for mark, _ in settled]
        mentions += _mentions(observation, sentence, [span for _, span in settled])
    if mentions:
        found = find_cues(sentence)
        marks = [(m.kind, status(sentence, found, mentions, m)) for m in mentions]
        states += [(name, Label(mark)) for name, mark in marks if mark != "hypothetical"]
    return tuple(states)


def _settled(observation: Observation, sentence: str) -> list[tuple[Label, tuple[int, int]]]:
    """Labels of words that need no cue ("normal heart size"), and where they stand."""
    rules = ((observation.uncertain, Label.uncertain), (observation.absent, Label.negative))
    return [(mark, m.span()) for pattern, mark in rules if pattern for m in pattern.finditer(sentence)]


def _mentions(observation: Observation, sentence: str, taken: list[tuple[int, int]]) -> list[Span]:
    """Where the observation is named, apart from places that are taken and words that only look like it."""
    spans = [match.span() for match in observation.present.finditer(sentence)]
    if spans and observation.ignore:
        taken = taken + [match.span() for match in observation.ignore.finditer(sentence)]
    free = [span for span in spans if not any(a < span[1] and span[0] < b for a, b in taken)]
    return [Span(observation.name, *span) for span in free]


def _strongest(marks: Iterable[Label]) -> Label:
    return min(marks, key=_RANK.__getitem__)
