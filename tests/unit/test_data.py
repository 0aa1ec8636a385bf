"""Batches: the order, the processes' shares, and the padding."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from r2g.config.schema import RunConfig, TrainSettings
from r2g.data import (
    Collate,
    MicroBatch,
    Share,
    Studies,
    by_length,
    collate_for,
    epoch_order,
    share_of,
    tokenize,
)
from r2g.encoders.base import Preprocess
from r2g.llms.base import LanguageModel


@pytest.fixture(scope="session")
def settings(configured: Callable[..., RunConfig]) -> TrainSettings:
    return dataclasses.replace(configured().train, batch_size=4, micro_batch=2)


LENGTHS = [(7 * i) % 23 + 1 for i in range(30)]


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize("count", [1, 4, 30])
def test_an_epoch_is_a_permutation(settings: TrainSettings, group: bool, count: int) -> None:
    settings = dataclasses.replace(settings, group_by_length=group)
    order = epoch_order(LENGTHS[:count], settings, 0, 0)
    assert sorted(i for batch in order for i in batch) == list(range(count))
    assert sum(len(batch) == 4 for batch in order) == count // 4


@pytest.mark.parametrize("group", [True, False])
def test_the_order_follows_seed_and_epoch_and_nothing_else(settings: TrainSettings, group: bool) -> None:
    settings = dataclasses.replace(settings, group_by_length=group)
    first = epoch_order(LENGTHS, settings, 3, 5)
    torch.manual_seed(99)
    other = dataclasses.replace(settings, micro_batch=1, learning_rate=9.0, workers=3, max_tokens=5)
    assert epoch_order(LENGTHS, other, 3, 5) == first
    assert epoch_order(LENGTHS, settings, 3, 6) != first
    assert epoch_order(LENGTHS, settings, 4, 5) != first


def test_without_shuffle_the_order_is_the_split_s(settings: TrainSettings) -> None:
    settings = dataclasses.replace(settings, shuffle=False, group_by_length=False, drop_last=True)
    assert epoch_order(LENGTHS, settings, 0, 0) == [list(range(i, i + 4)) for i in range(0, 28, 4)]
    assert epoch_order(LENGTHS[:3], settings, 0, 0) == [[0, 1, 2]]  # never nothing at all


def test_grouped_batches_hold_like_lengths(settings: TrainSettings) -> None:
    def padding(group: bool) -> int:
        order = epoch_order(LENGTHS, dataclasses.replace(settings, group_by_length=group), 0, 0)
        return sum(max(LENGTHS[i] for i in batch) - LENGTHS[j] for batch in order for j in batch)

    assert padding(True) < padding(False) / 2


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_shares_add_up_to_the_batch(world: int, micro: int, size: int) -> None:
    batch = list(range(10, 10 + size))
    shares = [share_of(batch, Share(rank, world), micro) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1, "a process with fewer rounds would hang the others"
    kept = [i for share in shares for m in share for i, c in zip(m.indices, m.counts, strict=True) if c]
    assert sorted(kept) == batch
    assert all(0 < len(m.indices) <= micro for share in shares for m in share)


def _films(count: int) -> list[torch.Tensor]:
    return [torch.full((1, 2, 2), 7, dtype=torch.uint8) for _ in range(count)]


def test_collate_masks_views_and_padding() -> None:
    collate = Collate(("a", "b"), ((5, 6, 2), (8, 2)), pad=0, ignored=0, length=None)
    batch = collate([(MicroBatch((0, 1), (True, True)), [_films(1), _films(3)])])
    assert batch.ids == ("a", "b")
    assert batch.images.shape == (2, 3, 1, 2, 2)
    assert batch.view_mask.tolist() == [[True, False, False], [True, True, True]]
    assert batch.films.tolist() == [0, 3, 4, 5]
    assert (batch.images.flatten(0, 1)[batch.films] == 7).all()
    assert batch.tokens.tolist() == [[5, 6, 2], [8, 2, 0]]
    assert batch.targets.tolist() == [0, 1, 2, 3, 4]


def test_a_token_with_the_padding_s_id_is_no_target() -> None:
    collate = Collate(("a",), ((5, 0, 2),), pad=0, ignored=0, length=5)
    batch = collate([(MicroBatch((0,), (True,)), [_films(1)])])
    assert batch.tokens.tolist() == [[5, 0, 2, 0, 0]]
    assert batch.targets.tolist() == [0, 2]


def test_the_end_counts_where_it_also_pads() -> None:
    collate = Collate(("a", "b"), ((5, 6, 2), (8, 2)), pad=2, ignored=None, length=None)
    batch = collate([(MicroBatch((0, 1), (True, True)), [_films(1), _films(1)])])
    assert batch.tokens.tolist() == [[5, 6, 2], [8, 2, 2]]
    assert batch.targets.tolist() == [0, 1, 2, 3, 4], "the report's own </s> counts, the padding doesn't"


def test_a_study_that_only_fills_up_counts_nowhere() -> None:
    collate = Collate(("a", "b"), ((5, 6, 2), (8, 2)), pad=0, ignored=0, length=None)
    batch = collate([(MicroBatch((1,), (False,)), [_films(1)])])
    assert batch.ids == ()
    assert batch.targets.numel() == 0
    assert batch.images.shape[0] == 1


class _Words(LanguageModel):
    """As much of an llm as tokenizing needs."""

    pad = 0

    def __init__(self, tokenizer: Any, pad: int) -> None:
        super().__init__(None, tokenizer, None)
        self.pad = pad


def _split(tokens: list[list[int]]) -> Studies:
    """Studies that have tokens and no films."""
    count = len(tokens)
    columns = {"id": [str(i) for i in range(count)], "report": [""] * count, "image_path": [[]] * count}
    return Studies({**columns, "labels": [None] * count}, Preprocess(8, (0.5,), (0.5,)), 1, tokens)


def test_reports_end_unless_they_are_cut(llama: Any, settings: TrainSettings) -> None:
    from transformers import AutoTokenizer

    llm: Any = _Words(AutoTokenizer.from_pretrained(llama), 0)
    settings = dataclasses.replace(settings, max_tokens=6)
    short, long = tokenize(
        {"report": ["the", "the heart is normal in size . lungs are clear"]}, llm, settings
    )
    assert short[-1] == llm.eos
    assert len(long) == 6
    assert llm.eos not in long
    assert llm.tokenizer.decode(short[:-1]) == "the"


@pytest.mark.parametrize(("pad", "ignored"), [(0, 0), (2, None)])
def test_padding_with_the_end_ignores_nothing(
    llama: Any, settings: TrainSettings, pad: int, ignored: int | None
) -> None:
    from transformers import AutoTokenizer

    llm: Any = _Words(AutoTokenizer.from_pretrained(llama), pad)

    studies = _split([[5, 2]])
    assert collate_for(studies, llm, settings).ignored == ignored


@pytest.mark.parametrize("world", [1, 2, 3])
def test_decoding_takes_every_study_once(world: int) -> None:
    studies = _split([[5] * length for length in LENGTHS])
    parts = [by_length(studies, 4, Share(rank, world)) for rank in range(world)]
    assert sorted(i for part in parts for m in part for i in m.indices) == list(range(len(LENGTHS)))
