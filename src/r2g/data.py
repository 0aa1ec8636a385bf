"""Studies to batches: which study comes when, and how it becomes tensors."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from r2g.config.schema import Padding, TrainSettings
from r2g.core.images import load_image
from r2g.core.types import SPLITS
from r2g.encoders.base import Preprocess
from r2g.llms.base import LanguageModel
from r2g.model import Batch

_POOL = (
    32  # batches that are sorted by length together; larger saves padding, smaller keeps more of the shuffle
)


@dataclass(frozen=True)
class Share:
    """Which process of how many."""

    rank: int
    world: int


@dataclass(frozen=True)
class MicroBatch:
    """Indices into a split; where `counts` is False the study only fills up a process's last batch."""

    indices: tuple[int, ...]
    counts: tuple[bool, ...]


def epoch_order(lengths: Sequence[int], settings: TrainSettings, seed: int, epoch: int) -> list[list[int]]:
    """The global batches of one epoch, a pure function of its arguments: no process or restart changes it.

    Shuffled by (seed, epoch); with `group_by_length`, reports of like length share a batch.
    """
    random = np.random.default_rng([seed, epoch])
    count, size = len(lengths), settings.batch_size
    order = random.permutation(count) if settings.shuffle else np.arange(count)
    if settings.group_by_length:
        span = size * _POOL
        chunks = [order[i : i + span] for i in range(0, count, span)]
        order = np.concatenate([c[np.argsort([lengths[j] for j in c], kind="stable")] for c in chunks])
    batches = [order[i : i + size].tolist() for i in range(0, count, size)]
    if settings.drop_last and len(batches[-1]) < size and len(batches) > 1:
        batches = batches[:-1]
    if settings.group_by_length and settings.shuffle:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


def share_of(batch: Sequence[int], share: Share, micro: int) -> list[MicroBatch]:
    """One process's part of a global batch, in micro-batches; every process gets the same number of them."""
    rounds = math.ceil(math.ceil(len(batch) / share.world) / micro)
    mine = list(batch[share.rank :: share.world])
    result = []
    for i in range(rounds):
        part = mine[i * micro : (i + 1) * micro]
        result.append(MicroBatch(tuple(part or batch[:1]), (True,) * len(part) or (False,)))
    return result


class Studies(Dataset):
    """One split: films decoded when asked for, reports tokenized once.

    With `kept`, a film's patches come from there, by path, and the encoder has nothing left to do.
    """

    def __init__(
        self, split: Any, preprocess: Preprocess, views: int, tokens: list[list[int]] | None
    ) -> None:
        self.ids: list[str] = list(split["id"])
        self.reports: list[str] = list(split["report"])
        self.paths: list[list[str]] = list(split["image_path"])
        self.labels: list[list[str] | None] = list(split["labels"])
        self.preprocess = preprocess
        self.views = views
        self.tokens = tokens
        self.decode: Callable[[str], torch.Tensor] = partial(
            decoded, size=preprocess.size, channels=preprocess.channels
        )
        self.kept: Callable[[str], torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def seen_by(self, preprocess: Preprocess) -> "Studies":
        """The same studies for another encoder; texts and tokens are shared, nothing is kept yet."""
        other = copy.copy(self)
        other.preprocess, other.kept = preprocess, None
        other.decode = partial(decoded, size=preprocess.size, channels=preprocess.channels)
        return other

    @property
    def lengths(self) -> list[int]:
        """Tokens of each report, `</s>` included."""
        return [len(t) for t in self.tokens or []]

    def films(self, index: int) -> list[torch.Tensor]:
        """The study's views as bytes [channel, height, width], or as patches [patch, vision] where they are kept."""
        return [(self.kept or self.decode)(p) for p in self.paths[index][: self.views]]

    def __getitem__(self, micro: MicroBatch) -> tuple[MicroBatch, list[list[torch.Tensor]]]:
        return micro, [self.films(i) for i in micro.indices]


def decoded(path: str, size: int, channels: int) -> torch.Tensor:
    """One film's bytes [channel, height, width]."""
    return torch.tensor(load_image(path, size, channels))


def tokenize(split: Any, llm: LanguageModel, settings: TrainSettings) -> list[list[int]]:
    """The token ids of each report of a split."""
    return cut(split["report"], llm.tokenizer, settings.max_tokens)


def cut(reports: Sequence[str], tokenizer: Any, length: int) -> list[list[int]]:
    """Each report and `</s>` as one text, then cut at `length`: a report that is too long has no `</s>`."""
    texts = [text + (tokenizer.eos_token or "") for text in reports]
    ids = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=length)
    return [list(row) for row in ids["input_ids"]]


@dataclass(frozen=True)
class Collate:
    """Picklable: turns what `Studies` gives into a Batch.

    Padding never counts in the loss, nor does `ignored` inside a report (R2GenGPT drops every target with the id of
    padding; where an llm pads with its `</s>`, that must still be learnt, so nothing is ignored then).
    """

    ids: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...] | None
    pad: int
    ignored: int | None
    length: int | None

    def __call__(self, items: list[tuple[MicroBatch, list[list[torch.Tensor]]]]) -> Batch:
        micro, films = items[0]
        most = max(len(f) for f in films)
        images = torch.zeros(len(films), most, *films[0][0].shape, dtype=films[0][0].dtype)
        mask = torch.zeros(len(films), most, dtype=torch.bool)
        for row, views in enumerate(films):
            images[row, : len(views)] = torch.stack(views)
            mask[row, : len(views)] = True
        tokens, counts = self._tokens(micro)
        return Batch(
            ids=tuple(self.ids[i] for i, c in zip(micro.indices, micro.counts, strict=True) if c),
            images=images,
            view_mask=mask,
            films=mask.flatten().nonzero().squeeze(1),
            tokens=tokens,
            targets=counts.flatten().nonzero().squeeze(1),
        )

    def _tokens(self, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        if self.tokens is None:
            return torch.zeros(len(micro.indices), 1, dtype=torch.long), torch.zeros(len(micro.indices), 1)
        rows = [self.tokens[i] for i in micro.indices]
        width = self.length or max(len(r) for r in rows)
        tokens = torch.full((len(rows), width), self.pad, dtype=torch.long)
        counts = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
            counts[i, : len(row)] = micro.counts[i]
        return tokens, counts if self.ignored is None else counts & (tokens != self.ignored)


def collate_for(studies: Studies, llm: LanguageModel, settings: TrainSettings) -> Collate:
    """The collate function of a split."""
    tokens = None if studies.tokens is None else tuple(tuple(t) for t in studies.tokens)
    length = settings.max_tokens if settings.padding is Padding.maximum else None
    return Collate(tuple(studies.ids), tokens, llm.pad, None if llm.pad == llm.eos else llm.pad, length)


class _InOrder:
    """A batch sampler that yields what it was given, one micro-batch a time."""

    def __init__(self, batches: Sequence[MicroBatch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        return iter([b] for b in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def batches(studies: Studies, order: Sequence[MicroBatch], collate: Collate, workers: int) -> Iterator[Batch]:
    """Load micro-batches in this order."""
    pin = torch.cuda.is_available()
    sampler: Any = _InOrder(order)
    return iter(
        DataLoader(studies, batch_sampler=sampler, collate_fn=collate, num_workers=workers, pin_memory=pin)
    )


def by_length(studies: Studies, size: int, share: Share) -> list[MicroBatch]:
    """All studies once, for validation loss or decoding: like lengths together, dealt out to the processes."""
    lengths = studies.lengths or [0] * len(studies)
    order = sorted(range(len(studies)), key=lambda i: (lengths[i], i))
    mine = order[share.rank :: share.world]
    chunks = [mine[i : i + size] for i in range(0, len(mine), size)]
    return [MicroBatch(tuple(c), (True,) * len(c)) for c in chunks]


@dataclass(frozen=True)
class Loaders:
    """The three splits with the fingerprint of their content."""

    train: Studies
    val: Studies
    test: Studies
    fingerprint: str

    def seen_by(self, preprocess: Preprocess) -> "Loaders":
        """The same splits for another encoder."""
        parts = {split: getattr(self, split).seen_by(preprocess) for split in SPLITS}
        return Loaders(**parts, fingerprint=self.fingerprint)


def load(
    raw: Any,
    preprocess: Preprocess,
    views: int,
    llm: LanguageModel,
    settings: TrainSettings,
    fingerprint: str,
) -> Loaders:
    """Studies of all splits from a DatasetDict."""
    parts = {s: Studies(raw[s], preprocess, views, tokenize(raw[s], llm, settings)) for s in SPLITS}
    return Loaders(**parts, fingerprint=fingerprint)


def first(studies: Studies, count: int | None) -> Studies:
    """The first `count` studies of a split (all of them for None)."""
    if count is None or count >= len(studies):
        return studies
    keep: dict[str, Any] = {
        "id": studies.ids,
        "report": studies.reports,
        "image_path": studies.paths,
        "labels": studies.labels,
    }
    part = {k: v[:count] for k, v in keep.items()}
    tokens = None if studies.tokens is None else studies.tokens[:count]
    some = Studies(part, studies.preprocess, studies.views, tokens)
    some.decode, some.kept = studies.decode, studies.kept
    return some
