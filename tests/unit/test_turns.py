"""One run at a time fills a store, a killed one blocks nobody, and room is promised once."""

import subprocess
import sys
from pathlib import Path

import pytest

from r2g import cache
from r2g.core.turns import got, keep, promise, turn_of, undisturbed

GROUPS = ("features", "films")
_HOLDS = """
import sys, time
from pathlib import Path
from r2g.core.turns import got, turn_of
lock = turn_of(Path(sys.argv[1]))
print(got(lock), flush=True)
time.sleep(60)
"""


def test_a_turn_is_one_s_alone_and_free_again(tmp_path: Path) -> None:
    one, other = (turn_of(tmp_path / "s") for _ in range(2))
    assert got(one)
    assert not got(other)
    assert not got(other, 0.3)
    assert got(turn_of(tmp_path / "t"))
    one.release()
    assert got(other)
    other.release()


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        lock = turn_of(tmp_path / "s")
        assert not got(lock)
    finally:
        holder.kill()
        holder.communicate()
    assert got(lock, 5.0)
    lock.release()


def test_what_is_promised_to_another_is_taken_until_it_is_kept_or_its_run_is_gone(tmp_path: Path) -> None:
    first, second = tmp_path / "features" / "a", tmp_path / "films" / "b"
    turns = turn_of(first), turn_of(second)
    assert all(got(turn) for turn in turns)
    assert promise(tmp_path, GROUPS, first, 60, 100.0)[0]
    (first / "rows.bin").write_bytes(b"x" * 20)  # a part of it is there, and isn't counted twice
    fits, held = promise(tmp_path, GROUPS, second, 60, 100.0)
    assert not fits
    assert 60 <= held < 70
    assert promise(tmp_path, GROUPS, second, 30, 100.0)[0]
    turns[0].release()  # as after a kill: the promise is still there
    assert promise(tmp_path, GROUPS, second, 60, 100.0)[0]
    keep(second)
    keep(second)
    assert got(turns[0])
    assert promise(tmp_path, GROUPS, first, 60, 100.0)[0]
    for turn in turns:
        turn.release()


def test_nothing_is_dropped_or_tidied_under_a_run_that_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, other = tmp_path / "features" / "a", tmp_path / "features" / "b"
    turn = turn_of(store)
    other.mkdir()
    (store / ".x.part").write_bytes(b"1234")
    assert got(turn)
    for act in (
        lambda: cache.drop(tmp_path, "features/a"),
        lambda: cache.drop(tmp_path, "features"),
        lambda: cache.tidy(tmp_path),
    ):
        with pytest.raises(SystemExit, match="a run is writing"):
            act()
    assert (store / ".x.part").is_file()
    cache.drop(tmp_path, "features/b")
    assert not other.exists()
    turn.release()
    with undisturbed([store]) as busy:
        assert busy is None
    cache.tidy(tmp_path)
    assert not (store / ".x.part").exists()
    cache.drop(tmp_path, "features")
    assert not store.exists()
