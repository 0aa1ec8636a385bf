"""What a sentence says of a mention: stated, negated or doubted, by the cues around it and where their scope ends."""

import re
from dataclasses import dataclass

from r2g.chexpert.lexicon import cues

BEFORE = {
    "uncertain_between": "uncertain",
    "negative_before": "negative",
    "uncertain_before": "uncertain",
    "hypothetical_before": "hypothetical",
}
WEAK, NEAR = "uncertain_weak", "uncertain_near"
AFTER = {
    "uncertain_between": "uncertain",
    "negative_after": "negative",
    "uncertain_after": "uncertain",
    "hypothetical_after": "hypothetical",
}
_VERB = r"(?:is|are|was|were|remains?|appears?|has|have|persists?|lies|ends|terminates|projects|overlies)"
_ENDS_A_LIST = (
    r"(?:not |also |readily |clearly |definitely )?(?:seen|identified|evident|present|noted|visuali[sz]ed|"
    r"appreciated|demonstrated|detected|found|visible|apparent|observed|suspected|suggested)"
)
_OWN_VERB = re.compile(rf"^(?: and)?(?: (?!or\b|nor\b|and\b)[\w.]+){{1,8}}? {_VERB}\b(?! {_ENDS_A_LIST})")
_ASIDE = re.compile(r" , [\w ]{1,40} , $")
_NEW_CLAUSE = re.compile(r",|\b(?:that|which)\b")
_LINK = re.compile(r"(?:or|nor|and|,|:)")
_SENTENCE_VERB = re.compile(r"\b(?:is|are|was|were|has|have|there|shows?|remains?|with|without|in|at|of)\b")


@dataclass(frozen=True)
class Span:
    """A piece of a sentence, and what it is (a kind of cue, or an observation)."""

    kind: str
    start: int
    end: int


def find_cues(sentence: str) -> list[Span]:
    """The cues in their order. Of two that overlap the longer one counts, of two alike the kind listed first."""
    likely = (pair for part in cues() if part.union.search(sentence) for pair in part.patterns)
    spans = [Span(kind, *m.span()) for kind, pattern in likely for m in pattern.finditer(sentence)]
    spans.sort(key=lambda span: span.start - span.end)
    kept: list[Span] = []
    for span in spans:
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


def status(sentence: str, found: list[Span], mentions: list[Span], mention: Span) -> str:
    """`positive`, `negative`, `uncertain`, or `hypothetical` (a question or a history, which states nothing)."""
    cue = _after(sentence, found, mentions, mention)
    behind = AFTER[cue.kind] if cue else None
    ahead = _before(sentence, found, mention)
    if behind == "hypothetical" or (behind == "uncertain" and ahead == "negative"):
        return behind
    if cue and (ahead, behind) == ("uncertain", "negative"):  # "the suspected nodule isn't confirmed"
        return "uncertain" if _NEW_CLAUSE.search(sentence, mention.end, cue.end) else "negative"
    return ahead or behind or "positive"


def _before(sentence: str, found: list[Span], mention: Span) -> str | None:
    """The nearest cue ahead of the mention (or inside it) that reaches it."""
    doubt = None
    for cue in reversed(found):
        inside = mention.start <= cue.start < mention.end and cue.kind == "negative_before"
        if cue.start >= mention.start and not inside:
            continue
        if cue.kind == "stop" or _new_clause(sentence, cue, mention):
            return doubt
        if cue.kind == NEAR and " , " not in sentence[cue.end : mention.start]:
            return "uncertain"
        if cue.kind == WEAK:
            doubt = "uncertain"
        elif cue.kind in BEFORE:
            return BEFORE[cue.kind] if doubt is None or cue.kind == "negative_before" else doubt
    return doubt


def _new_clause(sentence: str, cue: Span, mention: Span) -> bool:
    """Whether a comma between cue and mention, not right behind the cue, opens a clause with a verb of its own."""
    comma = sentence.rfind(" , ", cue.end, mention.start)
    return comma > cue.end and _OWN_VERB.match(sentence[comma + 2 :]) is not None


def _after(sentence: str, found: list[Span], mentions: list[Span], mention: Span) -> Span | None:
    """The first cue behind the mention, if it reaches back to it, over a list if need be."""
    for cue in found:
        if cue.start < mention.end:
            continue
        if cue.kind in AFTER:
            return cue if _reaches_back(sentence, cue, mentions, mention) else None
        aside = cue.kind == "stop" and sentence.startswith(", which", cue.start)
        if cue.kind != "pseudo" and not aside:
            return None
    return None


def _reaches_back(sentence: str, cue: Span, mentions: list[Span], mention: Span) -> bool:
    inside = [m for m in mentions if mention.end <= m.start and m.end <= cue.start]
    between = sorted(inside, key=lambda m: m.start)
    edges = [mention.end, *(edge for m in between for edge in (m.start, m.end)), cue.start]
    links = [sentence[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    if len(links[-1].split()) > 8 or (" , " in links[-1] and not _ASIDE.match(links[-1])):
        return False
    if not between:
        return True
    listed = all(_LINK.search(link) and not _SENTENCE_VERB.search(link) for link in links[:-1])
    behind = sentence[cue.start :]
    if not listed or not (behind.startswith(":") or re.search(r"\b(?:or|nor|and)\b", links[-2])):
        return False
    single = re.match(r"(?:, )?(?:(?:which|this|that|it) )?(?:is|was|has)\b", behind) is not None
    return not (single and re.search(r"\band\b", links[-2]))
