"""Stores that several runs fill at once: one run at a time a store, and room that is promised before it is taken.

The locks are the kernel's (flock): those of a process that was killed are free at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from r2g.core.store import files, size

_LOCK, _PROMISE = ".lock", ".promise"
_POLL = 0.2  # seconds between two looks at a lock that another holds


def turn_of(store: Path) -> FileLock:
    """The lock of whoever fills this store; it isn't held yet."""
    return _lock(store / _LOCK)


def got(lock: FileLock, seconds: float = 0.0) -> bool:
    """Wait so long for a lock at most; whether it is ours now."""
    try:
        lock.acquire(timeout=seconds, poll_interval=_POLL)
    except Timeout:
        return False
    return True


@contextmanager
def undisturbed(stores: Sequence[Path]) -> Iterator[Path | None]:
    """With nobody filling any of these stores; gives one that is being filled, if there is one."""
    held: list[FileLock] = []
    try:
        for store in stores:
            lock = turn_of(store)
            if not got(lock):
                yield store
                return
            held.append(lock)
        yield None
    finally:
        for lock in held:
            lock.release()


def promise(cache: Path, groups: Sequence[str], store: Path, need: int, most: float) -> tuple[bool, int]:
    """Whether `need` more bytes fit below `most`, and what is held or promised in these groups of stores.

    If they fit they are promised to `store`, whose turn the caller has, until `keep`.
    """
    with _lock(cache / ".room"):
        held = sum(size(cache / group) for group in groups)
        for other in (path for group in groups for path in files(cache / group, _PROMISE)):
            if other.parent != store:
                held += _owed(other)
        fits = held + need <= most
        if fits:
            draft = store / f"{_PROMISE}-"
            draft.write_text(str(size(store) + need))
            draft.replace(store / _PROMISE)
    return fits, held


def keep(store: Path) -> None:
    """The promise is kept, or given up."""
    (store / _PROMISE).unlink(missing_ok=True)


def _owed(promise_: Path) -> int:
    """Bytes that a store will still grow by; none if nobody is filling it any more."""
    store, lock = promise_.parent, turn_of(promise_.parent)
    if got(lock):
        lock.release()
        return 0
    try:
        return max(0, int(promise_.read_text()) - size(store))
    except FileNotFoundError:
        return 0  # kept meanwhile


def _lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
