"""Rows of one shape and dtype on disk, found by key and memory-mapped; several writers and a kill do no harm.

A shard is `NAME.bin` (the rows) with `NAME.json` (their keys). A writer fills a hidden file, renames it when it is
whole, and writes the keys last: what has no keys doesn't exist. Two writers may both write a key; one of them is read.
"""

import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

_SHARD = 256 * 2**20  # bytes after which a writer begins a new file: what a kill can cost


class StoreError(RuntimeError):
    """A shard that isn't what its keys say."""


class Store:
    """A folder of shards. Rows are read-only views of mapped files: copy them before changing them."""

    def __init__(self, folder: Path, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.folder, self.shape, self.dtype = folder, tuple(shape), dtype
        self._rows: dict[str, tuple[Tensor, int]] = {}
        self._seen: set[str] = set()
        self.refresh()

    def __reduce__(self) -> tuple[type["Store"], tuple[Path, tuple[int, ...], torch.dtype]]:
        """To another process goes the folder's name, not what is in it."""
        return Store, (self.folder, self.shape, self.dtype)

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def refresh(self) -> None:
        """Take up the shards that others have finished since. Raises StoreError for a damaged one."""
        for index in sorted(self.folder.glob("*.json")):
            if index.stem not in self._seen:
                self._seen.add(index.stem)
                self._open(index)

    def _open(self, index: Path) -> None:
        keys, file = json.loads(index.read_text())["keys"], index.with_suffix(".bin")
        size = file.stat().st_size if file.is_file() else 0
        if size != len(keys) * self.row_bytes:
            raise StoreError(
                f"{file} has {size} bytes where {len(keys)} rows need {len(keys) * self.row_bytes}; delete it and "
                f"{index.name}, and its rows are made again"
            )
        count = len(keys) * math.prod(self.shape)
        rows = torch.from_file(str(file), shared=False, size=count, dtype=self.dtype)
        for i, key in enumerate(keys):
            self._rows.setdefault(key, (rows.view(len(keys), *self.shape), i))

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> Tensor:
        rows, i = self._rows[key]
        return rows[i]

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys without a row, each once, in their order."""
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    @contextmanager
    def writer(self) -> Iterator["Writer"]:
        """Rows that are added are kept when the block ends, also when it ends by an error; then they can be read."""
        writer = Writer(self)
        try:
            yield writer
        finally:
            writer.commit()
            self.refresh()


class Writer:
    """Adds rows to a store, in shards of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._keys: list[str] = []
        self._file: IO[bytes] | None = None
        self._path = Path()

    def add(self, key: str, row: Tensor) -> None:
        """One row, of the store's shape and dtype and on any device."""
        if tuple(row.shape) != self.store.shape or row.dtype != self.store.dtype:
            want = f"{self.store.shape} {self.store.dtype}"
            raise ValueError(f"a row of {tuple(row.shape)} {row.dtype} can't go into a store of {want}")
        if self._file is None:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            self._path = self.store.folder / f".{uuid.uuid4().hex}.part"
            self._file = self._path.open("wb")
        self._file.write(row.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        self._keys.append(key)
        if self._file.tell() >= _SHARD:
            self.commit()

    def commit(self) -> None:
        """Finish the shard: rows first, keys last."""
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        name = self._path.name.removeprefix(".").removesuffix(".part")
        self._path.replace(self.store.folder / f"{name}.bin")
        draft = self.store.folder / f".{name}.keys"
        draft.write_text(json.dumps({"keys": self._keys}))
        draft.replace(self.store.folder / f"{name}.json")
        self._keys = []


def size(folder: Path) -> int:
    """Bytes of all files under a folder; 0 where there is none."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def leftovers(folder: Path) -> list[Path]:
    """Files under `folder` that a killed writer left: hidden parts, and rows that never got their keys."""
    hidden = [p for pattern in (".*.part", ".*.keys") for p in folder.rglob(pattern)]
    return hidden + [p for p in folder.rglob("*.bin") if not p.with_suffix(".json").is_file()]


def remove(paths: Iterable[Path]) -> int:
    """Delete files; gives the bytes that were freed. One that is gone already is no error."""
    freed = 0
    for path in paths:
        with suppress(FileNotFoundError):
            freed += path.stat().st_size
            path.unlink()
    return freed
