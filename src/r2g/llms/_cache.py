"""The llm's keys and values while it writes, in memory that is taken once.

transformers' own cache copies all of them for every token, which with many rows takes as long as the rest of a step.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer


def roomy(cache: Any, more: int) -> Any:
    """The cache, with room for `more` positions. Layers of a kind of their own (sliding windows) stay as they are."""
    spare = _Spare()
    cache.layers = [_roomy(layer, more, spare) for layer in cache.layers]
    return cache


def _roomy(layer: Any, more: int, spare: "_Spare") -> Any:
    plain = type(layer) is DynamicLayer and layer.is_initialized
    return _Roomy(layer.keys, layer.values, more, spare) if plain else layer


class _Spare:
    """Memory of one store, into which the next one is reordered and whose own memory is spare then."""

    def __init__(self) -> None:
        self._free: Tensor | None = None

    def reordered(self, store: Tensor, rows: Tensor) -> Tensor:
        """These rows of the store; the store itself must not be used any more."""
        free = self._free
        if free is None or (free.shape, free.dtype, free.device) != (store.shape, store.dtype, store.device):
            free = torch.empty_like(store)
        torch.index_select(store, 0, rows.to(store.device), out=free)
        self._free = store
        return free


class _Roomy(DynamicLayer):
    """Keys and values are views of a store, made anew when it is full or when something else was put in their place."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, more: int, spare: _Spare) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self._more, self._spare = keys, values, more, spare
        self._store: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append to each row; the result is valid until the next call that changes the cache."""
        held, grown = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if not self._stored() or grown > self._store[0].shape[-2]:
            self._store = [self._room(t, grown - held) for t in (self.keys, self.values)]
        for store, states in zip(self._store, (key_states, value_states), strict=True):
            store[:, :, held:grown] = states
        self._show(grown)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beams that go on, in their new places."""
        if not self._stored():
            super().reorder_cache(beam_idx)  # type: ignore[arg-type]  # it asks for a CPU's own class of tensor
            return
        self._store = [self._spare.reordered(store, beam_idx) for store in self._store]
        self._show(self.keys.shape[-2])

    def _stored(self) -> bool:
        shown = (self.keys, self.values)
        return len(self._store) > 0 and all(
            t.data_ptr() == store.data_ptr() and len(t) == len(store)
            for t, store in zip(shown, self._store, strict=True)
        )

    def _room(self, states: Tensor, least: int) -> Tensor:
        held = states.shape[-2]
        store = states.new_empty(*states.shape[:-2], held + max(self._more, least), states.shape[-1])
        store[:, :, :held] = states
        return store

    def _show(self, length: int) -> None:
        self.keys, self.values = (store[:, :, :length] for store in self._store)
