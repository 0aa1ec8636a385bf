"""What computes: seconds compare only between runs on the same."""

import platform
from pathlib import Path
from typing import Any

import torch

from r2g.core.beside import heard


def described(device: torch.device) -> dict[str, Any]:
    """The device's `type` and `name`; of a CPU also how many `threads` torch uses; how many runs may be `beside`."""
    others = {"beside": heard()} if heard() else {}
    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), **others}
    return {"type": device.type, "name": _processor(), "threads": torch.get_num_threads(), **others}


def _processor(told: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's model, or, where the system doesn't tell it, its architecture."""
    for line in told.read_text().splitlines() if told.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
