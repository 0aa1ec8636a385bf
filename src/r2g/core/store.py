"""Rows of one shape and dtype on disk, found by key and memory-mapped; several writers and a kill do no harm.

A shard is `NAME.bin` (the rows) with `NAME.json` (their keys). A writer fills a hidden file, renames it when it is
whole, and writes the keys last: what has no keys doesn't exist. Two writers may both write a key; one of them is read.
A shard that isn't what its keys say is passed over with a warning, so its rows are missing and are made again.
"""

import fnmatch
import json
import logging
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)
_SHARD = 256 * 2**20  # bytes after which a writer begins a new file: what a kill can cost


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
        """Take up the shards that others have finished since."""
        for index in sorted(files(self.folder, "*.json")):
            if index.stem not in self._seen:
                self._seen.add(index.stem)
                self._open(index)

    def _open(self, index: Path) -> None:
        file = index.with_suffix(".bin")
        keys = self._sound(index, file)
        if not keys:
            return
        try:
            count = len(keys) * math.prod(self.shape)
            rows = torch.from_file(str(file), shared=False, size=count, dtype=self.dtype)
        except RuntimeError:
            if file.is_file():
                raise
            return  # dropped meanwhile
        for i, key in enumerate(keys):
            self._rows.setdefault(key, (rows.view(len(keys), *self.shape), i))

    def _sound(self, index: Path, file: Path) -> list[str]:
        """The keys of a shard; none, with a warning, if it is damaged, and none if it was dropped meanwhile."""
        try:
            keys = keys_of(index)
            has, needs = bytes_of(file), len(keys) * self.row_bytes
            wrong = f"{file.name} has {has} bytes and its rows need {needs}" if has != needs else ""
        except FileNotFoundError:
            return []
        except ValueError:
            wrong = f"{index.name} holds no keys"
        if not wrong:
            return keys
        if index.is_file():
            told = "in %s, %s: its rows are made again, and %s.* can be deleted"
            _LOG.warning(told, self.folder, wrong, index.stem)
        return []

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
        except BaseException as error:
            try:
                writer.commit()
                self.refresh()
            except Exception as second:
                error.add_note(f"what was written before to {self.folder} couldn't be kept: {second}")
            raise
        writer.commit()
        self.refresh()


class Writer:
    """Adds rows to a store, in shards of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._keys: list[str] = []
        self._file: Any = None
        self._path = Path()

    def add(self, key: str, row: Tensor) -> None:
        """One row, of the store's shape and dtype and on any device."""
        if tuple(row.shape) != self.store.shape or row.dtype != self.store.dtype:
            want = f"{self.store.shape} {self.store.dtype}"
            raise ValueError(f"a row of {tuple(row.shape)} {row.dtype} can't go into a store of {want}")
        if self._file is None:
            self._begin()
        rest = memoryview(row.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        while rest:
            rest = rest[self._file.write(rest) :]
        self._keys.append(key)
        if self._file.tell() >= _SHARD:
            self.commit()

    def _begin(self) -> None:
        self.store.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.store.folder / f".{uuid.uuid4().hex}.part"
        # Without a buffer: after an error nothing waits in one, to be written or to fail again.
        self._file = self._path.open("wb", buffering=0)

    def commit(self) -> None:
        """Finish the shard: rows first, keys last. A row that was cut off by an error is dropped."""
        if self._file is None:
            return
        (file, keys), (self._file, self._keys) = (self._file, self._keys), (None, [])
        with file:
            file.truncate(len(keys) * self.store.row_bytes)
            os.fsync(file.fileno())
        if not keys:
            self._path.unlink()
            return
        name = self._path.name.removeprefix(".").removesuffix(".part")
        self._path.replace(self.store.folder / f"{name}.bin")
        draft = self.store.folder / f".{name}.keys"
        draft.write_text(json.dumps({"keys": keys}))
        draft.replace(self.store.folder / f"{name}.json")


def keys_of(index: Path) -> list[str]:
    """The keys of a shard. Raises ValueError for a file that was cut off or overwritten."""
    told = json.loads(index.read_text())
    if not isinstance(told, dict) or not isinstance(told.get("keys"), list):
        raise ValueError(f"{index} holds no keys")
    return told["keys"]


def size(folder: Path) -> int:
    """Bytes of all files under a folder; 0 where there is none. Others may write and remove files meanwhile."""
    return sum(map(bytes_of, files(folder, "*")))


def files(folder: Path, pattern: str) -> list[Path]:
    """Files under a folder whose names match; what is gone before it is looked at is left out."""
    found = ((Path(place), names) for place, _, names in os.walk(folder))  # silent where a folder has gone
    return [place / name for place, names in found for name in fnmatch.filter(names, pattern)]


def bytes_of(file: Path) -> int:
    """A file's size; 0 for one that has gone."""
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def leftovers(folder: Path) -> list[Path]:
    """Files under `folder` that a killed writer left: hidden parts, and rows that never got their keys."""
    hidden = [path for pattern in (".*.part", ".*.keys") for path in files(folder, pattern)]
    return hidden + [path for path in files(folder, "*.bin") if not path.with_suffix(".json").is_file()]


def remove(paths: Iterable[Path]) -> int:
    """Delete files; gives the bytes that were freed. One that is gone already is no error."""
    freed = 0
    for path in paths:
        with suppress(FileNotFoundError):
            freed += path.stat().st_size
            path.unlink()
    return freed
