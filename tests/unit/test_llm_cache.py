"""The cache of keys and values that grows in place holds what transformers' own would."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from r2g.llms._cache import roomy

_LAYERS = 2


def _states(rows: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    drawn = torch.randn(2, rows, 3, length, 4, generator=torch.Generator().manual_seed(seed))
    return drawn[0], drawn[1]


def _prompt(rows: int = 4, length: int = 5) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(_LAYERS):
        cache.update(*_states(rows, length, layer), layer)
    return cache


def _append(cache: Any, length: int, seed: int) -> list[Tensor]:
    rows = len(cache.layers[0].keys)
    given = [cache.update(*_states(rows, length, seed + i), i) for i in range(_LAYERS)]
    return [part.clone() for pair in given for part in pair]


def _held(cache: Any) -> list[Tensor]:
    return [part for layer in cache.layers for part in (layer.keys, layer.values)]


_STEPS: dict[str, Sequence[Callable[[Any], object]]] = {
    "token by token": [lambda c, i=i: _append(c, 1, i) for i in range(6)],
    "beyond its room": [lambda c: _append(c, 2, 0), lambda c: _append(c, 9, 1), lambda c: _append(c, 1, 2)],
    "beams": [
        lambda c: c.reorder_cache(torch.tensor([3, 3, 0, 1])),
        lambda c: _append(c, 1, 0),
        lambda c: c.reorder_cache(torch.tensor([0, 0, 0, 2])),
        lambda c: c.reorder_cache(torch.tensor([1, 3, 2, 0])),
        lambda c: _append(c, 1, 1),
    ],
    "cut and taken up": [lambda c: _append(c, 3, 0), lambda c: c.crop(-2), lambda c: _append(c, 1, 1)],
    "other rows": [
        lambda c: _append(c, 1, 0),
        lambda c: c.batch_repeat_interleave(2),
        lambda c: _append(c, 1, 1),
        lambda c: c.batch_select_indices(torch.tensor([5, 0])),
        lambda c: c.reorder_cache(torch.tensor([1, 0])),
        lambda c: _append(c, 1, 2),
    ],
}


@pytest.mark.parametrize("steps", _STEPS.values(), ids=_STEPS)
def test_it_holds_what_transformers_own_would(steps: Sequence[Callable[[Any], object]]) -> None:
    ours, theirs = roomy(_prompt(), 6), _prompt()
    for step in steps:
        for mine, its in zip(step(ours) or [], step(theirs) or [], strict=True):
            assert torch.equal(mine, its)
        assert ours.get_seq_length() == theirs.get_seq_length()
        assert all(torch.equal(a, b) for a, b in zip(_held(ours), _held(theirs), strict=True))


def test_within_its_room_nothing_is_copied() -> None:
    cache = roomy(_prompt(), 4)
    _append(cache, 1, 0)
    places = [part.data_ptr() for part in _held(cache)]
    for i in range(3):
        _append(cache, 1, i)
        assert [part.data_ptr() for part in _held(cache)] == places
    _append(cache, 1, 9)
    assert all(part.data_ptr() != place for part, place in zip(_held(cache), places, strict=True))


def test_beams_take_the_memory_of_one_store_more() -> None:
    cache = roomy(_prompt(), 8)
    places = set()
    for i in range(6):
        _append(cache, 1, i)
        cache.reorder_cache(torch.tensor([0, 0, 2, 1]))
        places.update(part.data_ptr() for part in _held(cache))
    assert len(places) == 2 * _LAYERS + 1


def test_layers_of_another_kind_stay_theirs() -> None:
    cache = _prompt()
    cache.layers[1] = DynamicSlidingWindowLayer(sliding_window=3)
    assert type(roomy(cache, 4).layers[1]) is DynamicSlidingWindowLayer
