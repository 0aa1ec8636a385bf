"""Report text as the published work normalizes it: three cleaners whose small differences move the scores."""

from dataclasses import dataclass

from r2g.datasets.base import Cleaner

# In all three: deleted wherever they stand, so "1.5" becomes "15". Underscores fall here too.
_ALWAYS = "\"'/\\.,?;*!%^&_+()[]{}"
# R2Gen wrote a hyphen between ":" and "[": a range, these characters among it, while "-" itself survives.
_RANGE = ":;<=>?@["
_LIST_NUMBERS = "2345"
_QUOTES = str.maketrans("", "", "\"'/\\")


@dataclass(frozen=True)
class _Recipe:
    """What sets one cleaner apart.

    A pass halves a run of the doubled character, so `dots` passes leave something of runs above 2 ** dots.
    """

    newlines: bool  # a newline becomes a space; only \n, not \r
    spaces: int  # passes over double spaces
    dots: int  # passes over double full stops
    space_colon: bool
    drop: str


_RECIPES = {
    Cleaner.iu: _Recipe(newlines=False, spaces=0, dots=3, space_colon=False, drop=_ALWAYS + _RANGE),
    Cleaner.mimic_r2gengpt: _Recipe(newlines=True, spaces=6, dots=8, space_colon=True, drop=_ALWAYS),
    Cleaner.mimic_r2gen: _Recipe(newlines=True, spaces=6, dots=8, space_colon=False, drop=_ALWAYS + _RANGE),
}


def clean(report: str, cleaner: Cleaner) -> str:
    """The report in lower case, its sentences joined by " . " and closed by " ."; unchanged for `none`.

    Sentences end at ". " only. An empty sentence stays, as in the published code: it shows as two spaces.
    """
    if cleaner is Cleaner.none:
        return report
    recipe = _RECIPES[cleaner]
    drop = str.maketrans("", "", recipe.drop)
    text = report.replace("\n", " ") if recipe.newlines else report
    text = _collapse(_collapse(text, " ", recipe.spaces), ".", recipe.dots)
    text = _without_numbers(text)
    if recipe.space_colon:
        text = text.replace(":", " :")
    return " . ".join(_sentence(part, drop) for part in text.strip().lower().split(". ")) + " ."


def _collapse(text: str, character: str, passes: int) -> str:
    for _ in range(passes):
        text = text.replace(2 * character, character)
    return text


def _without_numbers(text: str) -> str:
    """List numbers go; "1. " anywhere, so that "grade 1. no" loses its sentence's end, as published."""
    text = text.replace("1. ", "")
    for before in (". ", " "):
        for number in _LIST_NUMBERS:
            text = text.replace(f"{before}{number}. ", ". ")
    return text


def _sentence(text: str, drop: dict[int, int | None]) -> str:
    # Quotes and slashes go before the outer spaces do, the rest after: what a dropped "(" leaves is kept.
    return text.translate(_QUOTES).strip().translate(drop)
