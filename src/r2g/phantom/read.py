"""A rule-based reader: which of the phantom's labels does a report state?"""

import re
from dataclasses import dataclass

from r2g.phantom.findings import KIND

_PATTERNS = {
    "cardiomegaly": r"cardiomegaly|(?:heart|cardiac silhouette|cardiac shadow|cardiac contour|cardiac size|"
    r"cardiomediastinal silhouette|heart size|cardiac enlargement)\b(?:(?! no | without | normal| not ).){0,40}?\b"
    r"(?:enlarge\w*|increased|large|big)|enlarge\w* (?:of the )?(?:heart|cardiac)\w*|"
    r"(?:enlarged|large|big) (?:heart|cardiac)|cardiac enlargement",
    "effusion": r"effusions?|pleural fluid|fluid in the (?:\w+ )?pleural space|hydrothorax",
    "pneumothora": r"pneumothora(?:x|ces)",
    "consolidation": r"consolidations?|consolidated|pneumonia|airspace (?:opacity|opacities|disease|opacification)|"
    r"air space (?:opacity|opacities|disease|opacification)",
    "edema": r"o?edema|oedematous|edematous|vascular congestion",
    "nodule": r"nodul(?:es?|ar)|pulmonary mass|lung mass",
    "fracture": r"fractur\w+|broken ribs?|ribs? (?:is|are) broken",
    "atelectasis": r"atelecta\w+|collapse of the base|plate ?like collapse",
    "emphysema": r"emphysem\w+|hyperinflat\w+|hyperexpan\w+|copd",
    "wide_mediastinum": r"(?:widen\w*|wide|broad\w*|enlarge\w*) (?:of the )?(?:superior |upper )?mediastin\w+|"
    r"mediastin\w+(?: contours?| shadow| silhouette)? (?:is|are|appears|looks|shows)?\s?(?:\w+ )?(?:widen\w+|wide|broad\w*)",
    "scoliosis": r"scolio\w+|curvature of the (?:thoracic )?spine|curved spine",
    "pacemaker": r"pacemakers?|pacer|pacing device",
    "endotracheal_tube": r"endotracheal|et tube|ett\b|intubated|tracheal tube",
    "central_line": r"central (?:venous )?(?:line|catheter)|cvc|jugular (?:line|catheter)|subclavian (?:line|catheter)|picc",
    "sternotomy": r"sternotomy|sternal wires?|cerclage wires?",
}  # fmt: skip
_NAMES = {"pneumothora": "pneumothorax"}
_PATTERN = re.compile("|".join(f"(?P<{name}>\\b(?:{rule}))" for name, rule in _PATTERNS.items()))
_NEGATION = re.compile(
    r"\b(?:no|not|without|free of|clear of|absence of|absent|negative for|neither|nor|never|denies|excludes?|"
    r"ruled? out|rules out|resolved|resolution of|removed|removal of|lack of|lacks|devoid of|fails to show)\b"
)
_AFTER = re.compile(
    r"^(?:(?! and | with ).){0,40}?\b(?:not (?:\w+ )?(?:seen|present|identified|evident|visible|demonstrated|appreciated|"
    r"detected|found|shown)|absent|has resolved|have resolved|resolved|is gone|excluded|ruled out|"
    r"has been removed|was removed|cleared)\b"
)
_RESTART = re.compile(r"\b(?:there (?:is|are)|but|however|although|though|except|apart from|shows?|which)\b")
_CLAUSE = re.compile(r"\b(?:but|however|although|though|whereas|while|except for|except|apart from|aside from|other than)\b")
_SIDE = re.compile(r"\b(?:left|right|bilateral\w*|bibasilar|bibasal|both|biapical)\b")
_BOTH = ("left", "right")


@dataclass(frozen=True)
class _Mention:
    name: str
    start: int
    end: int


def read(text: str) -> frozenset[str]:
    """The labels (findings.LABELS) that a report states as present.

    Negation reaches over a list (`no effusion or pneumothorax`) and ends at `but` and its like. A sided finding
    without a side gives no label. Works on cleaned text too, where sentences are joined by ` . `.
    """
    found: set[str] = set()
    for clause in _clauses(text):
        mentions = [_mention(m) for m in _PATTERN.finditer(clause)]
        before: tuple[str, ...] = ()
        for i, mention in enumerate(mentions):
            left = mentions[i - 1].end if i else 0
            right = mentions[i + 1].start if i + 1 < len(mentions) else len(clause)
            sides = _sides(clause, mention, left, right, before)
            before = sides or before
            if not _negated(clause, mention, right):
                found |= _labels(mention.name, sides)
    return frozenset(found)


def _clauses(text: str) -> list[str]:
    flat = re.sub(r"[-/,:()\[\]\"']", " ", text.lower().replace("’", ""))
    sentences = re.split(r"[.;!?\n]+", flat)
    parts = [part for sentence in sentences for part in _CLAUSE.split(sentence)]
    return [re.sub(r"\s+", " ", part).strip() for part in parts]


def _mention(match: re.Match[str]) -> _Mention:
    name = str(match.lastgroup)
    return _Mention(_NAMES.get(name, name), match.start(), match.end())


def _negated(clause: str, mention: _Mention, right: int) -> bool:
    head = clause[: mention.start]
    cues = list(_NEGATION.finditer(head))
    if cues and not _RESTART.search(head[cues[-1].end() :]):
        return True
    inside = clause[mention.start : mention.end]
    return bool(re.search(r"\b(?:no|not|without|normal)\b", inside) or _AFTER.search(clause[mention.end : right]))


def _sides(clause: str, mention: _Mention, left: int, right: int, before: tuple[str, ...]) -> tuple[str, ...]:
    """Between the findings beside it: a side named before it, else one named after it, else the last one's."""
    inside = _SIDE.findall(clause[mention.start : mention.end])
    ahead = _SIDE.findall(clause[left : mention.start])
    behind = _SIDE.findall(clause[mention.end : right])
    words = inside or ahead or behind
    if words and before and ahead and not inside and behind and clause[left : mention.start].startswith(" on the"):
        words = behind  # "effusion on the left and pneumothorax on the right": the first side is the effusion's
    if not words:
        return before
    both = any(word not in _BOTH for word in words) or {"left", "right"} <= set(words)
    return _BOTH if both else (words[-1] if words is ahead else words[0],)


def _labels(name: str, sides: tuple[str, ...]) -> set[str]:
    return {f"{name}_{side}" for side in sides} if KIND[name].side == "label" else {name}
