"""A report's text into clean sentences: sections, lists, gaps of de-identification, spelling."""

import re
from functools import lru_cache

from r2g.chexpert.spelling import corrected

_ASIDE = (
    r"indications?|(?:clinical |patient |brief )?(?:history|information|indication|statement)|comparisons?|"
    r"techniques?|exam(?:ination)?(?: type| date)?|procedure|reason for (?:exam(?:ination)?|study|this examination)|"
    r"views?|dictated by|signed by|attending|recommendations?"
)
_MAIN = r"findings?|impressions?|conclusions?|findings and impression|report|interpretation|opinion|summary"
_ASIDE_SECTION = re.compile(
    rf"(?:^|(?<=[.\n]))[ \t]*(?:{_ASIDE})[ \t]*:.*?(?=(?:^|[.\n])[ \t]*(?:{_MAIN})[ \t]*:|\n[ \t]*\n|\Z)",
    re.S,
)
_HEADING = re.compile(rf"(?:^|(?<=[.\n]))[ \t]*(?:{_MAIN})[ \t]*:")
_GAP_OF_LUNGS = re.compile(r"(?:^|(?<=\. ))(?:the )?x{3,} (?=(?:are|is|appear|remain)(?: \w+)? clear)")
_GAP = re.compile(r"\bx{3,}(?:'s|s)?\b|_{2,}|\[\*\*.*?\*\*\]")
_LIST_NUMBER = re.compile(r"(?:^|(?<=[\n.]))\s*(?:\d{1,2}[.)]|[-*•])\s+")
_SENTENCE = re.compile(r"(?<!\bdr)(?<!\bvs)[.!;]+(?=\s|$)|(?<=[a-z])\.(?=[a-z]{3})|\n\s*\n+|\x1e")
_PUNCTUATION = re.compile(r"\s*([,:?])\s*")


def sentences(report: str) -> list[str]:
    """Lower-case sentences; words, commas, colons and question marks stand apart by one space."""
    text = (
        report.lower()
        .replace("\r", "")
        .replace("’", "'")
        .replace("can't", "cannot")
        .replace("n't", " not")
        .replace("–", "-")
        .replace("—", " , ")
    )
    text = _ASIDE_SECTION.sub(" \n\n", text)
    text = _HEADING.sub(" \n\n", text)
    text = _LIST_NUMBER.sub(" \x1e ", text)
    return [clean for part in _SENTENCE.split(text) if (clean := _clean(part))]


@lru_cache(maxsize=20_000)
def _clean(sentence: str) -> str:
    flat = _GAP_OF_LUNGS.sub("lungs ", sentence.strip())
    flat = re.sub(r"\bsternotomy x{3,}", "sternotomy wires", flat)
    flat = _GAP.sub(" ", flat)
    flat = re.sub(r"(?<!\w)-ve\b", "negative", flat)
    flat = re.sub(r"\band\s*/\s*or\b", "or", flat)
    flat = re.sub(r"\b(r|h|s|w|c)/(o|p)\b", r"\1 \2", flat)
    flat = re.sub(r"(?<=[a-z])/(?=[a-z])", " or ", flat)
    flat = re.sub(r"[()\[\]{}]|\s-+\s", " , ", flat)
    flat = re.sub(r"[^\w\s,:?.]", " ", flat)
    flat = _PUNCTUATION.sub(r" \1 ", flat)
    flat = flat.replace("air space", "airspace")
    words = " ".join(corrected(word) for word in flat.split()).strip(" ,.")
    return re.sub(r"(?: ,)+", " ,", words)
