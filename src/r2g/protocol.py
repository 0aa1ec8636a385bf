"""A protocol applied: predictions as its rules want them scored, stamped with its name and hash."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2g.config.paths import config_dir
from r2g.config.resolve import read_settings, to_tree
from r2g.config.schema import Case, Cut, CutUnit, Protocol
from r2g.core import ngrams
from r2g.core.registry import UnknownName, nearest
from r2g.core.types import Cleaner, Prediction, Section
from r2g.datasets._clean import clean

UNKNOWN = "<unk>"
BASE = "full"
"""The protocol that the others are held against."""


class Unavailable(RuntimeError):
    """A protocol lacks what it needs here; the message says what."""


@dataclass(frozen=True)
class Material:
    """What there is to apply a protocol with.

    `cleaned` and `train_cleaned` say which cleaner has been over the references and over train's reports already;
    `originals` holds reports by id that none has touched. `section` and `films` (the most a study) say what the data
    is like, as far as anybody knows.
    """

    cleaned: Cleaner = Cleaner.none
    originals: Mapping[str, str] | None = None
    train: Sequence[str] | None = None
    train_cleaned: Cleaner = Cleaner.none
    tokenizer: Any = None
    section: Section = Section.as_given
    films: int | None = None


def names() -> list[str]:
    """All protocols of the config tree, the base first."""
    found = sorted(path.stem for path in _folder().glob("*.yaml"))
    return sorted(found, key=lambda name: name != BASE)


def read(name: str) -> list[Protocol]:
    """The protocol of a name, or those of a family. Raises UnknownName, or ConfigError for a file with mistakes."""
    if name in names():
        return [read_settings(Protocol, _folder() / f"{name}.yaml")]
    every = [read_settings(Protocol, _folder() / f"{n}.yaml") for n in names()]
    family = [protocol for protocol in every if protocol.family == name]
    if not family:
        choices = list(dict.fromkeys([*names(), *(p.family for p in every)]))
        hint = nearest(name, choices)
        raise UnknownName(f"unknown protocol '{name}'{hint} (choices: {', '.join(choices)})")
    return family


def stamp(protocol: Protocol) -> dict[str, str]:
    """`name`, and `hash`: 12 hex digits over all its rules."""
    content = json.dumps(to_tree(protocol), sort_keys=True)
    return {"name": protocol.name, "hash": hashlib.sha256(content.encode()).hexdigest()[:12]}


class Judge:
    """Brings predictions into a protocol's form. Raises Unavailable when that can't be done with this material."""

    def __init__(self, protocol: Protocol, material: Material) -> None:
        self.protocol, self._material = protocol, material
        misfits = protocol.misfits(material.section, material.films)
        if misfits:
            raise Unavailable("; ".join(misfits.values()))
        self._vocabulary = None
        if protocol.rare_words is not None:
            self._vocabulary = _vocabulary(protocol.rare_words.threshold, protocol.cleaner, material)
        if (
            protocol.cut is not None
            and protocol.cut.unit is CutUnit.llm_tokens
            and material.tokenizer is None
        ):
            raise Unavailable("it cuts references by the tokens of an llm, and no tokenizer is given")

    def __call__(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        rules = self.protocol
        wanted = _cleaned(predictions, rules.cleaner, self._material)
        if self._vocabulary is not None:
            wanted = [_without_rare(text, self._vocabulary) for text in wanted]
        if rules.cut is not None:
            wanted = _cut(wanted, rules.cut, self._material.tokenizer)
        pairs = zip(predictions, wanted, strict=True)
        return [replace(p, reference=self._both(r), hypothesis=self._both(p.hypothesis)) for p, r in pairs]

    def stamp(self, judged: Sequence[Prediction]) -> dict[str, str]:
        """The protocol's stamp, with a digest of the references as scored: equal digests, comparable scores."""
        return stamp(self.protocol) | {"references": ngrams.digest(judged)}

    def _both(self, text: str) -> str:
        for unwanted in self.protocol.remove:
            text = text.replace(unwanted, "")
        return text.lower() if self.protocol.case is Case.lower else text


def _folder() -> Path:
    return Path(config_dir()) / "score" / "protocol"


def _cleaned(predictions: Sequence[Prediction], cleaner: Cleaner | None, material: Material) -> list[str]:
    if cleaner is None or cleaner is material.cleaned:
        return [p.reference for p in predictions]
    if material.cleaned is Cleaner.none:
        return [clean(p.reference, cleaner) for p in predictions]
    if material.originals is None:
        raise Unavailable(
            f"it cleans by {cleaner.value}, the references were cleaned by {material.cleaned.value}, and no "
            "annotation file gives the originals"
        )
    absent = [p.id for p in predictions if p.id not in material.originals]
    if absent:
        raise Unavailable(
            f"{len(absent)} of {len(predictions)} ids are not in the annotation ({absent[0]}, ...)"
        )
    return [clean(material.originals[p.id], cleaner) for p in predictions]


def _vocabulary(threshold: int, cleaner: Cleaner | None, material: Material) -> frozenset[str]:
    """The words that train's reports have at least `threshold` times."""
    if material.train is None:
        raise Unavailable("its vocabulary is made from train's reports, and no annotation file is given")
    reports: Sequence[str] = material.train
    if cleaner is not None and cleaner is not material.train_cleaned:
        if material.train_cleaned is not Cleaner.none:
            raise Unavailable(f"train's reports were cleaned by {material.train_cleaned.value}")
        reports = [clean(text, cleaner) for text in reports]
    counts = Counter(word for text in reports for word in text.split())
    return frozenset(word for word, count in counts.items() if count >= threshold)


def _without_rare(text: str, vocabulary: frozenset[str]) -> str:
    return " ".join(word if word in vocabulary else UNKNOWN for word in text.split())


def _cut(texts: list[str], cut: Cut, tokenizer: Any) -> list[str]:
    if cut.unit is CutUnit.words:
        return [" ".join(text.split()[: cut.length]) for text in texts]
    # Short reports go through the tokenizer too, as in the published code: what it can't spell changes there.
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [tokenizer.decode(row[: cut.length], **options).strip() for row in ids]
