"""Rows on disk: found again, whole after a kill, safe with several writers."""

import json
import logging
import multiprocessing
import pickle
import shutil
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from torch import Tensor

from r2g import cache
from r2g.core import store as module
from r2g.core.store import Store, leftovers, remove, size

SHAPE = (3, 2)


def _row(i: int) -> Tensor:
    return torch.full(SHAPE, float(i), dtype=torch.bfloat16) + torch.arange(2)


def _add(kept: Store, rows: dict[str, Tensor]) -> None:
    with kept.writer() as writer:
        for key, row in rows.items():
            writer.add(key, row)


def _fill(folder: Path, start: int, end: int) -> None:
    with Store(folder, SHAPE, torch.bfloat16).writer() as writer:
        for i in range(start, end):
            writer.add(str(i), _row(i))


def test_rows_come_back_as_they_were_also_in_another_process(tmp_path: Path) -> None:
    kept = Store(tmp_path / "s", SHAPE, torch.bfloat16)
    assert kept.missing(["b", "a", "b"]) == ["b", "a"]
    with kept.writer() as writer:
        writer.add("a", _row(1))
        writer.add("b", _row(2))
    for one in (kept, Store(tmp_path / "s", SHAPE, torch.bfloat16), pickle.loads(pickle.dumps(kept))):
        assert torch.equal(one["a"], _row(1))
        assert torch.equal(one["b"], _row(2))
        assert one.missing(["a", "c"]) == ["c"]
        assert "c" not in one


def test_several_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    spans = [(0, 60), (30, 90), (60, 120)]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(_fill, [(tmp_path, *span) for span in spans])
    kept = Store(tmp_path, SHAPE, torch.bfloat16)
    assert kept.missing(map(str, range(120))) == []
    assert all(torch.equal(kept[str(i)], _row(i)) for i in range(120))


def test_a_long_write_is_kept_shard_by_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHARD", 5 * 12)  # bytes: five rows
    block = Store(tmp_path, SHAPE, torch.bfloat16).writer()
    writer = block.__enter__()
    for i in range(13):
        writer.add(str(i), _row(i))
    seen = Store(tmp_path, SHAPE, torch.bfloat16)  # as after a kill: the block never ended
    assert seen.missing(map(str, range(13))) == ["10", "11", "12"]
    assert len(leftovers(tmp_path)) == 1
    block.__exit__(None, None, None)
    assert leftovers(tmp_path) == []
    assert Store(tmp_path, SHAPE, torch.bfloat16).missing(map(str, range(13))) == []


def test_rows_without_keys_do_not_exist(tmp_path: Path) -> None:
    _fill(tmp_path, 0, 3)
    (tmp_path / "ab.bin").write_bytes(b"1234")
    (tmp_path / ".cd.part").write_bytes(b"12")
    assert Store(tmp_path, SHAPE, torch.bfloat16).missing(["0", "3"]) == ["3"]
    assert remove(leftovers(tmp_path)) == 6
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("ending", "content"), [(".bin", b"12345"), (".json", b'{"keys": ["0"'), (".json", b"[]"), (".json", b"")]
)
def test_a_damaged_shard_is_named_and_its_rows_are_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, content: bytes
) -> None:
    _fill(tmp_path, 0, 3)
    file = next(tmp_path.glob(f"*{ending}"))
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        kept = Store(tmp_path, SHAPE, torch.bfloat16)
    assert file.name in caplog.text
    assert kept.missing("012") == ["0", "1", "2"]
    _fill(tmp_path, 0, 3)
    assert torch.equal(Store(tmp_path, SHAPE, torch.bfloat16)["2"], _row(2))


class _Full:
    """A file on a disk that fills up, or whose writer is stopped, in the middle of a row."""

    def __init__(self, file: Any, error: BaseException) -> None:
        self.file, self.error = file, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: Any) -> int:
        self.file.write(content[:5])
        raise self.error


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), OSError(28, "No space left on device")])
def test_half_a_row_is_dropped_and_the_error_is_its_own(
    tmp_path: Path, rows: int, error: BaseException
) -> None:
    kept = Store(tmp_path, SHAPE, torch.bfloat16)

    def write() -> None:
        with kept.writer() as writer:
            for i in range(rows):
                writer.add(str(i), _row(i))
            if writer._file is None:
                writer._begin()
            writer._file = _Full(writer._file, error)
            writer.add("x", _row(9))

    with pytest.raises(type(error)) as told:
        write()
    assert told.value is error
    for one in (kept, Store(tmp_path, SHAPE, torch.bfloat16)):
        assert one.missing(["0", "1", "x"]) == (["x"] if rows else ["0", "1", "x"])
    assert leftovers(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == (2 if rows else 0)


def test_a_row_whose_key_was_not_noted_any_more_is_dropped(tmp_path: Path) -> None:
    kept = Store(tmp_path, SHAPE, torch.bfloat16)

    class Keys(list):
        def append(self, key: str) -> None:
            if key == "b":
                raise KeyboardInterrupt
            super().append(key)

    def write() -> None:
        with kept.writer() as writer:
            writer._keys = Keys()
            writer.add("a", _row(1))
            writer.add("b", _row(2))

    with pytest.raises(KeyboardInterrupt):
        write()
    assert torch.equal(Store(tmp_path, SHAPE, torch.bfloat16)["a"], _row(1))


def test_a_store_can_be_looked_at_while_others_write_and_drop_it(tmp_path: Path) -> None:
    done = Event()

    def work() -> None:
        i = 0
        while not done.is_set():
            _fill(tmp_path / "s", i, i + 1)
            i += 1
            if i % 20 == 0:
                shutil.rmtree(tmp_path / "s")

    thread = Thread(target=work)
    thread.start()
    try:
        for _ in range(200):
            size(tmp_path)
            leftovers(tmp_path)
            Store(tmp_path / "s", SHAPE, torch.bfloat16)
            cache._rows(tmp_path / "s")
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("gone", ["*.bin", "*.json", "*"])
def test_a_shard_that_is_dropped_while_it_is_opened_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    _fill(tmp_path, 0, 2)
    real = module.bytes_of

    def look(file: Path) -> int:
        found = real(file)
        remove(tmp_path.glob(gone))
        return found

    monkeypatch.setattr(module, "bytes_of", look)
    assert Store(tmp_path, SHAPE, torch.bfloat16).missing(["0"]) == ([] if gone == "*.json" else ["0"])


def test_what_was_written_before_an_error_is_kept(tmp_path: Path) -> None:
    kept = Store(tmp_path, SHAPE, torch.bfloat16)
    with pytest.raises(ValueError, match="can't go into a store"):
        _add(kept, {"a": _row(1), "b": torch.zeros(1)})
    assert "a" in kept
    assert json.loads(next(tmp_path.glob("*.json")).read_text()) == {"keys": ["a"]}


@pytest.mark.parametrize("row", [torch.zeros(3, 2), torch.zeros(2, 2, dtype=torch.bfloat16)])
def test_a_row_of_another_kind_is_refused(tmp_path: Path, row: Tensor) -> None:
    with (
        pytest.raises(ValueError, match="can't go into a store"),
        Store(tmp_path, SHAPE, torch.bfloat16).writer() as w,
    ):
        w.add("a", row)
