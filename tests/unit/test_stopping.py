"""When SIGTERM and Ctrl-C are heard."""

import os
import signal
from collections.abc import Iterator

import pytest

from r2g.core.stopping import Interrupted, Terminable


@pytest.fixture(autouse=True)
def heard() -> Iterator[list[int]]:
    """The signals that reach who listened before."""
    got: list[int] = []
    old = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    pressed = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of the test run ignores it
    yield got
    signal.signal(signal.SIGTERM, old)
    signal.signal(signal.SIGINT, pressed)


def _term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _writes(asked: Terminable, *, before: bool, done: list[str]) -> None:
    """Work that can be done again; the signal comes before it, or in it, twice."""
    if before:
        _term()
        assert asked.flag
    with asked.at_once("it writes"):
        try:
            done.append("begun")
            _term()
        except Exception:
            pytest.fail("it was taken for a failure")
        finally:
            _term()


def _trains(*, before: bool, done: list[str]) -> None:
    with Terminable() as asked:
        _writes(asked, before=before, done=done)


@pytest.mark.parametrize("before", [True, False])
def test_it_is_noted_and_heard_where_work_can_be_done_again(heard: list[int], before: bool) -> None:
    done: list[str] = []
    with pytest.raises(Interrupted, match="while it writes"):
        _trains(before=before, done=done)
    assert done == ([] if before else ["begun"])
    assert heard == []


def test_one_that_came_too_late_is_passed_on(heard: list[int]) -> None:
    with Terminable():
        _term()
        assert heard == []
    assert heard == [signal.SIGTERM]


def test_ctrl_c_is_noted_too_and_a_second_one_ends_at_once(capfd: pytest.CaptureFixture[str]) -> None:

    def pressed_twice() -> None:
        with Terminable() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.flag
            assert "Ctrl-C again ends at once" in capfd.readouterr().err
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pressed_twice()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_came_too_late_is_passed_on() -> None:
    done = []

    def pressed() -> None:
        with Terminable():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        pressed()
    assert done == ["all of it"]


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Terminable() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert not asked.flag
        _term()
        assert asked.flag
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_failure_is_not_hidden_by_it(heard: list[int]) -> None:
    def fails() -> None:
        with Terminable():
            _term()
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fails()
    assert heard == []


def test_a_child_process_only_notes_it() -> None:
    with Terminable() as asked, asked.at_once("it writes"):
        child = os.fork()
        if child == 0:
            _term()
            os._exit(7 if asked.flag else 8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
