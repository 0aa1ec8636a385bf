"""The findings and the impression of a free-text report, by its headings."""

import re
from enum import Enum


class Section(Enum):
    """What of a report becomes the text to write; `both` needs both, in this order."""

    findings = "findings"
    impression = "impression"
    both = "both"


_FINDINGS = {"FINDING", "FINDINGS"}
_IMPRESSION = {"IMPRESSION", "IMPRESSIONS", "CONCLUSION", "CONCLUSIONS"}
_EARLY = {"PROVISIONAL", "PRELIMINARY", "WET"}  # a first look; the final text stands elsewhere
# Lines such as "LUNGS: clear" belong to the section that they stand in, though they look like headings.
_WITHIN = {
    *(
        "LUNG",
        "LUNGS",
        "PLEURA",
        "PLEURAL",
        "PNEUMOTHORAX",
        "EFFUSION",
        "EFFUSIONS",
        "AIRWAY",
        "AIRWAYS",
        "TRACHEA",
    ),
    *(
        "HEART",
        "CARDIAC",
        "CARDIOMEDIASTINAL",
        "CARDIOMEDIASTINUM",
        "MEDIASTINUM",
        "MEDIASTINAL",
        "HILA",
        "HILAR",
    ),
    *(
        "AORTA",
        "VESSELS",
        "VASCULATURE",
        "BONE",
        "BONES",
        "OSSEOUS",
        "SPINE",
        "RIBS",
        "SKELETON",
        "DIAPHRAGM",
    ),
    *(
        "ABDOMEN",
        "TISSUE",
        "TISSUES",
        "LINE",
        "LINES",
        "TUBE",
        "TUBES",
        "DEVICE",
        "DEVICES",
        "HARDWARE",
        "CATHETER",
    ),
    *("NOTE", "OTHER", "LIMITATIONS"),
}
_AND = r"\s*(?:and|or|/|&|,)?\s*"
_OURS = "|".join(  # the longest first
    [
        rf"findings?{_AND}impressions?",
        rf"impressions?{_AND}findings?",
        rf"impressions?{_AND}recommendations?",
        r"findings?",
        r"impressions?",
        r"conclusions?",
    ]
)
_OTHERS = "|".join(
    [
        r"final\s+(?:report|addendum)|addendum|wet\s+read|preliminary\s+report",
        r"(?:type\s+of\s+)?exam(?:ination)?s?|study|techniques?|procedures?|views?|comparisons?",
        r"(?:clinical\s+)?(?:indications?|history|information|statement)",
        r"reason\s+for\s+(?:the\s+)?(?:exam(?:ination)?|study)",
        r"recommendations?|notifications?|attending|dictated\s+by|(?:electronically\s+)?signed(?:\s+by)?",
    ]
)
_HEADING = re.compile(
    "|".join(
        [
            rf"^[ \t]*(?P<start>(?i:{_OURS}))[ \t]*:",
            rf"^[ \t]*(?P<title>(?=[A-Z])(?i:{_OTHERS}))[ \t]*:",
            # Alone on its line a name needs capitals: a wrapped sentence may leave a lone "findings".
            rf"^[ \t]*(?P<alone>(?=[A-Z \t/&,]+$)(?i:{_OURS}|{_OTHERS}))[ \t]*$",
            r"^[ \t]*(?P<capitals>[A-Z][A-Z0-9 ,/&()'_-]{2,60}?)[ \t]*:(?=\s|$)",
            # Reports on one line: capitals anywhere, other spellings after the end of a sentence.
            rf"(?<=\s)(?P<inside>(?=[A-Z \t/&,]+:)(?i:{_OURS}|{_OTHERS}))[ \t]*:",
            rf"(?<=[.;!?_][ \t])[ \t]*(?P<sentence>(?=[A-Z])(?i:{_OURS}|{_OTHERS}))[ \t]*:",
        ]
    ),
    re.MULTILINE,
)
_FINAL = re.compile(r"^[ \t]*FINAL[ \t]+REPORT\b", re.MULTILINE)


def extract(report: str, section: Section) -> str | None:
    """The section's text on one line, or None where the report lacks it.

    "FINDINGS AND IMPRESSION" serves as either and as both. A section that occurs several times is joined.
    What precedes a line "FINAL REPORT" (a first reading) is left out.
    """
    found = sections(report)
    wanted = [Section.findings, Section.impression] if section is Section.both else [section]
    texts = [found.get(part.value, "") for part in wanted]
    return " ".join(dict.fromkeys(texts)) if all(texts) else None


def sections(report: str) -> dict[str, str]:
    """The texts of "findings" and "impression", each only where there is one."""
    finals = list(_FINAL.finditer(report))
    text = report[finals[-1].start() :] if finals else report
    headings = [match for match in _HEADING.finditer(text) if _is_heading(match)]
    ends = [*[match.start() for match in headings], len(text)][1:]
    parts: dict[str, dict[str, None]] = {}
    for match, end in zip(headings, ends, strict=True):
        body = " ".join(text[match.end() : end].split())
        for kind in _kinds(_name(match)) if body else ():
            parts.setdefault(kind, {})[body] = None
    return {kind: " ".join(bodies) for kind, bodies in parts.items()}


def _is_heading(match: re.Match[str]) -> bool:
    return match.lastgroup != "capitals" or not _words(_name(match)) & _WITHIN


def _name(match: re.Match[str]) -> str:
    return match.group(match.lastgroup or 0)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[A-Z]+", name.upper()))


def _kinds(name: str) -> tuple[str, ...]:
    words = _words(name)
    if words & _EARLY:
        return ()
    kinds = {"findings": _FINDINGS, "impression": _IMPRESSION}
    return tuple(kind for kind, spellings in kinds.items() if words & spellings)
