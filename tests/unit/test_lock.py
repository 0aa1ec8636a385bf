"""Two processes and one folder."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r2g.core import lock
from r2g.core.lock import Held, Lock

_HOLDS = """
import os, sys, time
from pathlib import Path
from r2g.core.lock import Lock
Lock(Path(sys.argv[1])).take()
child = os.fork() if "forks" in sys.argv else 1
if child:
    print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Another process that holds the folder, until it is killed."""
    begun = []

    def hold(*words: str) -> Any:
        call = [sys.executable, "-c", _HOLDS, str(tmp_path / "run"), *words]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True, start_new_session=True)
        begun.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in begun:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_folder_that_is_held_is_refused_with_who_holds_it(tmp_path: Path, holder: Any) -> None:
    process = holder()
    with pytest.raises(Held, match=f"held by process {process.pid} on .*, since 20"):
        Lock(tmp_path / "run").take()
    (tmp_path / "run" / lock.FILE).write_text("")
    with pytest.raises(Held, match="held by another process"):
        Lock(tmp_path / "run").take()


def test_a_killed_process_holds_nothing_even_where_its_worker_lives_on(tmp_path: Path, holder: Any) -> None:
    process = holder("forks")
    process.kill()
    process.wait()
    mine = Lock(tmp_path / "run")
    mine.take()
    mine.release()
    assert not (tmp_path / "run").exists()


def test_let_go_another_takes_it_and_what_is_in_it_stays(tmp_path: Path, holder: Any) -> None:
    mine = Lock(tmp_path / "run")
    mine.release()  # of what was never taken
    mine.take()
    mine.take()
    (tmp_path / "run" / "record.json").write_text("{}")
    (tmp_path / "run").rename(tmp_path / "final")
    mine.release(tmp_path / "final")
    assert [path.name for path in (tmp_path / "final").iterdir()] == ["record.json"]
    holder()


def test_a_lock_that_was_taken_away_is_sought_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = fcntl.lockf, []

    def slow(file: int, how: int) -> None:
        real(file, how)
        if not seen:
            (tmp_path / "run" / lock.FILE).unlink()
        seen.append(file)

    monkeypatch.setattr(fcntl, "lockf", slow)
    mine = Lock(tmp_path / "run")
    mine.take()
    assert len(seen) == 2
    assert (tmp_path / "run" / lock.FILE).is_file()
    mine.release()


def test_a_file_system_without_locks_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unknown)
    mine = Lock(tmp_path / "run")
    mine.take()
    assert "No locks available" in caplog.text
    mine.release()
