"""GPUs of one machine, shared out among the arms that run there."""

import fcntl
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seat:
    """A GPU that an arm has to itself, among all sweeps of its user on this machine; or none in particular."""

    gpu: str | None = None
    lock: int | None = None

    @classmethod
    def free(cls, gpus: Sequence[str]) -> "Seat | None":
        """The first GPU on which no other arm sits; None if there is none."""
        if not gpus:
            return cls()
        for gpu in gpus:
            name = Path(tempfile.gettempdir(), f"r2g-{os.getuid()}-gpu-{gpu}.lock")
            lock = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(
                    lock, fcntl.LOCK_EX | fcntl.LOCK_NB
                )  # the kernel lets go of it, however this process ends
            except BlockingIOError:
                os.close(lock)
            else:
                return cls(gpu, lock)
        return None

    def environment(self) -> dict[str, str]:
        """What the arm is told."""
        return {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}

    def leave(self) -> None:
        """The next arm may have it."""
        if self.lock is not None:
            os.close(self.lock)
