"""The cleaners against the differences that the published code shows, one by one."""

import pytest

from r2g.datasets._clean import clean
from r2g.datasets.base import Cleaner

IU, GPT, R2GEN = Cleaner.iu, Cleaner.mimic_r2gengpt, Cleaner.mimic_r2gen
PUBLISHED = (IU, GPT, R2GEN)


def test_every_cleaner_has_its_case_here() -> None:
    assert set(Cleaner) == {Cleaner.none, *PUBLISHED}


def test_none_changes_nothing() -> None:
    text = ' The "Heart"\n\nis  NORMAL: 1.5 cm.. '
    assert clean(text, Cleaner.none) == text


@pytest.mark.parametrize("cleaner", PUBLISHED)
@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("The heart is normal. No effusion.", "the heart is normal . no effusion ."),
        ("Nodule of 1.5 cm.", "nodule of 15 cm ."),
        ("1. Normal heart. 2. Clear lungs. 3. No fracture.", "normal heart . clear lungs . no fracture ."),
        ("Normal heart 2. clear lungs", "normal heart . clear lungs ."),
        ("Heart normal. 6. Lungs clear.", "heart normal . 6 . lungs clear ."),
        ("Grade 1. No effusion.", "grade no effusion ."),
        ("Level 11. Stable.", "level 1stable ."),
        ("Well-expanded lungs - clear", "well-expanded lungs - clear ."),
        ('Heart/lungs "normal", patient\'s 50% (approx)*!?', "heartlungs normal patients 50 approx ."),
        ("A & B + {c} [d]; e^f\\g", "a  b  c d efg ."),
        ("No effusion.... Clear.", "no effusion . clear ."),
        ("One.Two. Three", "onetwo . three ."),
        ("Air. . Bone", "air .  . bone ."),
        ("A. ( b )", "a .  b  ."),
        ("", " ."),
    ],
)
def test_what_all_of_them_do(cleaner: Cleaner, raw: str, cleaned: str) -> None:
    assert clean(raw, cleaner) == cleaned


@pytest.mark.parametrize(
    ("raw", "iu", "gpt", "r2gen"),
    [
        ("Lungs: clear", "lungs clear .", "lungs : clear .", "lungs clear ."),
        ("at 10:30", "at 1030 .", "at 10 :30 .", "at 1030 ."),
        ("a;b<c=d>e@f", "abcdef .", "ab<c=d>e@f .", "abcdef ."),
        (
            "Heart\nnormal.\nClear",
            "heart\nnormal\nclear .",
            "heart normal . clear .",
            "heart normal . clear .",
        ),
        ("Heart   is    big", "heart   is    big .", "heart is big .", "heart is big ."),
        ("the ____ year", "the  year .", "the  year .", "the  year ."),
        ("Clear." + "." * 15 + " End", "clear . end .", "clear . end .", "clear . end ."),
        ("see 1.  Clear", "see  clear .", "see clear .", "see clear ."),
        ("one\n2. two", "one\n2 . two .", "one . two .", "one . two ."),
        ("a\r\nb", "a\r\nb .", "a\r b .", "a\r b ."),
    ],
)
def test_where_they_differ(raw: str, iu: str, gpt: str, r2gen: str) -> None:
    assert [clean(raw, cleaner) for cleaner in PUBLISHED] == [iu, gpt, r2gen]
