"""A rule-based reader: which of the phantom's labels does a report state?"""

import re
from dataclasses import dataclass

from r2g.phantom.findings import KIND

_PATTERNS = {
    "cardiomegaly": r"cardiomegaly|(?:heart|cardiac silhouette|cardiac shadow|cardiac contour|cardiac size|"
    r"cardiomediastinal silhouette|heart size|cardiac enlargement)\b"
    r"(?:(?! no | without | normal| not ).){0,40}?"
    r"\b(?:enlarge\w*|increased|large|big)|enlarge\w* (?:of the )?(?:heart|cardiac)\w*|"
    r"(?:enlarged|large|big) (?:heart|cardiac)|cardiac enlargement",
    "effusion": r"(?<!pericardial )effusions?|pleural fluid|fluid in the (?:\w+ )?pleural space|hydrothorax|"
    r"blunt(?:ed|ing of the) (?:\w+ )?costophrenic (?:angles?|sulc\w+)|"
    r"costophrenic (?:angles?|sulc\w+) (?:is|are|appears?) (?:\w+ )?blunted",
    "pneumothora": r"pneumothora(?:x|ces)",
    "consolidation": r"consolidat\w+|pneumonias?|infiltrates?|"
    r"air ?space (?:opacity|opacities|disease|opacification)",
    "edema": r"o?edema|oedematous|edematous|vascular congestion|heart failure|kerley",
    "nodule": r"nodul(?:es?|ar)|pulmonary mass|lung mass",
    "fracture": r"fractur\w+|broken ribs?|ribs? (?:is|are) broken",
    "atelectasis": r"atelecta\w+|collapse of the base|plate ?like collapse|volume loss",
    "emphysema": r"emphysem\w+|hyper ?inflat\w+|hyper ?expan\w+|copd",
    "wide_mediastinum": r"(?:widen\w*|wide|broad\w*|enlarge\w*) (?:of the )?"
    r"(?:superior |upper )?mediastin\w+|"
    r"mediastin\w+(?: contours?| shadow| silhouette)? (?:is|are|appears|looks|shows)?\s?(?:\w+ )?"
    r"(?:widen\w+|wide|broad\w*)",
    "scoliosis": r"scolio\w+|curvature of the (?:thoracic )?spine|curved spine",
    "pacemaker": r"pace ?makers?|pacer|pacing (?:device|leads?|wires?)|defibrillator",
    "endotracheal_tube": r"endotracheal|et tube|ett\b|intubated|tracheal tube",
    "central_line": r"central (?:venous )?(?:line|catheter)|cvc|picc|"
    r"(?:jugular|subclavian) (?:venous )?(?:line|catheter)",
    "sternotomy": r"sternotomy|sternal wires?|cerclage wires?",
}
_NAMES = {"pneumothora": "pneumothorax"}
_PATTERN = re.compile("|".join(f"(?P<{name}>\\b(?:{rule}))" for name, rule in _PATTERNS.items()))
_NEGATION = re.compile(
    r"\b(?:no|not|without|free of|clear of|absence of|absent|negative for|neither|nor|never|denies|excludes?|"
    r"ruled? out|rules out|resolved|resolution of|removed|removal of|lack of|lacks|devoid of|fails to show)\b"
)
_AFTER = re.compile(
    r"^(?:(?! and | with ).){0,40}?\b(?:not (?:\w+ )?(?:seen|present|identified|evident|visible|demonstrated|"
    r"appreciated|detected|found|shown)|absent|has resolved|have resolved|resolved|is gone|"
    r"excluded|ruled out|has been removed|was removed|cleared)\b"
)
_RESTART = re.compile(
    r"\b(?:there (?:is|are)|and an?|but|however|although|though|except|apart from|shows?|which)\b"
)
_CLAUSE = re.compile(
    r"\b(?:but|however|although|though|whereas|while|except for|except|apart from|aside from|other than)\b"
)
_SIDE = re.compile(r"\b(?:left|right|bilateral\w*|bibasilar|bibasal|both|biapical)\b")
_ATTACHED = re.compile(
    r"\b(?:on|in|at|of|within|over|overlying|throughout|involving|along|from|to)"
    r"(?: the| its)? (?:left|right)\b"
)
_BOTH = ("left", "right")


@dataclass(frozen=True)
class _Mention:
    name: str
    start: int
    end: int


def read(text: str) -> frozenset[str]:
    """The labels (findings.LABELS) that a report states as present.

    Negation reaches over a list (`no effusion or pneumothorax`) and ends at `but` and its like. A sided
    finding without a side gives no label. Works on cleaned text too, where sentences are joined by ` . `.
    """
    found: set[str] = set()
    for clause in _clauses(text):
        mentions = [_mention(m) for m in _PATTERN.finditer(clause)]
        before: tuple[str, ...] = ()
        open_gap = False
        for i, mention in enumerate(mentions):
            left = mentions[i - 1].end if i else 0
            right = mentions[i + 1].start if i + 1 < len(mentions) else len(clause)
            gap = clause[left : mention.start]
            taken = open_gap and _ATTACHED.search(gap) is not None
            sides = _sides(clause, mention, gap, clause[mention.end : right], before, taken)
            before = sides or before
            open_gap = not _SIDE.search(clause[left : mention.end]) or taken
            if not _negated(clause, mention, right):
                found |= _labels(mention.name, sides)
    return frozenset(found)


def _clauses(text: str) -> list[str]:
    flat = re.sub(r"[-/,:()\[\]\"']", " ", text.lower().replace("’", ""))
    flat = flat.replace("hydropneumothorax", "effusion and pneumothorax")
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
    return bool(
        re.search(r"\b(?:no|not|without|normal)\b", inside) or _AFTER.search(clause[mention.end : right])
    )


def _sides(
    clause: str, mention: _Mention, gap: str, after: str, before: tuple[str, ...], taken: bool
) -> tuple[str, ...]:
    """A side named before the finding, else one named after it, else the last finding's.

    `taken`: the side in the gap before it is the last finding's: "effusion on the left, nodule on the right".
    """
    inside = _SIDE.findall(clause[mention.start : mention.end])
    ahead, behind = _SIDE.findall(gap), _SIDE.findall(after)
    words = inside or (behind if taken and behind else ahead or behind)
    if not words:
        return before
    both = any(word not in _BOTH for word in words) or {"left", "right"} <= set(words)
    return _BOTH if both else (words[-1] if words is ahead else words[0],)


def _labels(name: str, sides: tuple[str, ...]) -> set[str]:
    return {f"{name}_{side}" for side in sides} if KIND[name].side == "label" else {name}
