"""What the launcher's tests run in place of r2g.run: arms that end in every way, and start in a moment."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from r2g.core.beside import heard
from r2g.core.outcome import Outcome


def _raise() -> None:
    raise ValueError("this arm raises")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang_once() -> None:
    """Until it is asked to stop; the next start goes on from where this one was."""
    if not Path("hung-once").exists():
        Path("hung-once").touch()
        time.sleep(600)


_FAULTS = {
    4: _raise,
    5: lambda: sys.exit("this arm exits"),
    6: _kill,
    7: lambda: time.sleep(600),
    8: lambda: sys.exit(0),
    107: _hang_once,
    207: lambda: time.sleep(600),
}


def _stop(*_: object) -> None:
    Path("stopped").touch()
    sys.exit("this arm wrote its checkpoint")


def already(configs: Sequence[DictConfig]) -> list[Outcome | None]:
    """The launchers' question; DUMB can't answer it."""
    if "DUMB" in os.environ:
        raise ChildProcessError("the answer never came")
    places = [Path(f"record-{config.number}") for config in configs]
    return [Outcome("already there", str(path)) if path.exists() else None for path in places]


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float:
    """Leave a file of the arm's number, unless a fault comes first; faults happen when FAULTS is set."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "DEAF" in os.environ else _stop)
    record = Path(f"record-{config.number}")
    job = Path(HydraConfig.get().runtime.output_dir)
    with Path("started").open("a") as file:
        file.write(f"{config.number} ")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        Path(f"gpu-{config.number}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    Path(f"beside-{config.number}").write_text(str(heard()))
    status = "already there" if record.exists() else "finished"
    Outcome("running", str(record)).write(job)
    Path(f"at-work-{config.number}").touch()
    if "FAULTS" in os.environ and config.number in _FAULTS:
        _FAULTS[config.number]()
    record.write_text(config.text)
    Outcome(status, str(record), objective=float(config.number)).write(job)
    return float(config.number)


if __name__ == "__main__":
    main()
