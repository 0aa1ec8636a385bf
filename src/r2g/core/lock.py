"""A folder is one process's at a time, as far as its file system can tell."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path

FILE = ".lock"
_LOG = logging.getLogger(__name__)
_TAKEN = (errno.EAGAIN, errno.EACCES)


class Held(RuntimeError):
    """Another process works in the folder; the message says which, and where."""


class Lock:
    """The kernel lets go of it when its process dies, however it dies.

    A record lock (lockf) and not flock: a loader's worker, which outlives its killed parent by some seconds, would
    inherit a flock and keep a requeued run out. So it is between processes, not within one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = None

    def take(self) -> None:
        """Make the folder and hold it. Raises Held. Where locks are unknown, says so and goes on without."""
        while self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / FILE
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:  # the folder got another name just now
                continue
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                told = os.read(file, 1000)
                os.close(file)
                if error.errno in _TAKEN:
                    raise Held(f"{self.folder} is held by {_who(told)}; wait for it, or end it") from None
                path.unlink(missing_ok=True)
                _LOG.warning(
                    "no locks on this file system (%s): keep two launches out of %s", error, path.parent
                )
                return
            if not _same(file, path):  # what was locked has gone meanwhile
                os.close(file)
                continue
            self._file = file
        os.ftruncate(self._file, 0)
        begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row = {"host": socket.gethostname(), "process": os.getpid(), "since": begun}
        os.pwrite(self._file, json.dumps(row).encode(), 0)

    def release(self, folder: Path | None = None) -> None:
        """Let go; the folder, which may have another name by now, goes too if nothing else is in it."""
        if self._file is None:
            return
        place = folder or self.folder
        (place / FILE).unlink(missing_ok=True)
        os.close(self._file)
        self._file = None
        with contextlib.suppress(OSError):  # something is in it
            place.rmdir()


def _who(told: bytes) -> str:
    try:
        row = json.loads(told)
    except json.JSONDecodeError:  # between its lock and its word of it
        return "another process"
    return f"process {row['process']} on {row['host']}, since {row['since']}"


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
