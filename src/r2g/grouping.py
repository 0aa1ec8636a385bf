"""Which runs of a sweep train side by side: those that can share an llm, as many as memory holds."""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from r2g import record, together
from r2g.budget import Cost, cost
from r2g.config.resolve import to_tree
from r2g.config.schema import Device, RunConfig
from r2g.gang import gang_key

_LOG = logging.getLogger(__name__)
_GB = 10**9
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_USABLE = 0.8  # of what is free: writing reports and the libraries need some too


def groups_of(
    configs: Sequence[RunConfig], most: int, memory_gb: float | None, processes: int = 1
) -> list[list[int]]:
    """The runs' numbers, gang by gang, in their order. A run that is too large for the bound goes alone.

    So does one that can't be estimated: what keeps it from being built must not keep others from their start.

    Without `memory_gb`, the bound is most of what is free; several processes, which must agree, share all there is.
    """
    alike: dict[str, list[int]] = {}
    for i, config in enumerate(configs):
        alike.setdefault(gang_key(config), []).append(i)
    known: dict[str, Need] = {}
    groups = []
    for members in alike.values():
        first = configs[members[0]]
        bound = _USABLE * room(first, processes) if memory_gb is None else memory_gb * _GB
        widest = together.most_positions("cuda" if _on_gpu(first) else "cpu")
        group: dict[int, Need] = {}
        for i in members:
            try:
                need = _need(configs[i], known) if len(members) > 1 else _NOTHING
            except Exception as error:
                _LOG.warning(
                    "what a run of '%s' needs can't be estimated (%s); it goes alone", configs[i].name, error
                )
                groups.append([i])
                continue
            if group and (len(group) == most or taken([*group.values(), need], widest) > bound):
                groups.append(list(group))
                group = {}
            group[i] = need
        groups += [list(group)] if group else []
    return groups


@dataclass(frozen=True)
class Need:
    """Bytes that a run brings into a gang: `llm` is there once, `own` as long as the arm trains.

    `passing` comes and goes with its batch of `positions` through the llm, `writing` with its reports.
    """

    llm: int
    own: int
    passing: int
    writing: int
    positions: int


_NOTHING = Need(0, 0, 0, 0, 1)


def taken(needs: Sequence[Need], widest: int) -> int:
    """Bytes of a gang at its height. Arms' batches of up to `widest` positions go through the llm as one."""
    passing = max(n.passing * min(len(needs), max(1, widest // n.positions)) for n in needs)
    writing = sum(n.writing for n in needs)
    return needs[0].llm + sum(n.own for n in needs) + max(passing, writing)


def _need(config: RunConfig, known: dict[str, Need]) -> Need:
    """Equal for all seeds of an arm."""
    arm = record.run_id(to_tree(config), seed=False)
    if arm not in known:
        known[arm] = need(cost(config), _BYTES[config.train.precision.value])
    return known[arm]


def need(found: Cost, bytes_each: int) -> Need:
    """A run's peak, split into what a gang holds once, what each arm holds, and what only one batch has at a time."""
    memory = found.memory
    others = sum(part["total"] for name, part in found.budget["parts"].items() if name != "llm") * bytes_each
    llm = max(0, memory.weights - others)
    own = memory.weights - llm + memory.gradients + memory.optimizer + memory.before_llm
    return Need(llm, own, max(0, memory.peak - llm - own), memory.writing, found.positions)


def room(config: RunConfig, processes: int) -> float:
    """Bytes on the device that the run would use: free ones for one process, for several each one's share of all."""
    if _on_gpu(config):
        free, whole = torch.cuda.mem_get_info()
        return float(free if processes == 1 else whole)
    memory = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    most, left = allowed()
    if processes > 1:
        return min(memory, most) / processes
    return min(_available(memory), left)


def _on_gpu(config: RunConfig) -> bool:
    return torch.cuda.is_available() and config.train.device is not Device.cpu


def _available(whole: float) -> float:
    """Bytes of the machine that nobody uses; on Linux, with what its file cache would give back."""
    told = Path("/proc/meminfo")
    for line in told.read_text().splitlines() if told.is_file() else []:
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    return whole / 2


def allowed(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> tuple[float, float]:
    """Bytes that a SLURM job or a container may have in all, and those left; infinite where nobody bounds it.

    A bound stands in this process's control group or in any above it, under other names in their first version.
    """
    most = left = math.inf
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, kinds, place = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        top, names = (root, ("memory.max", "memory.current"))
        if kinds:
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        folder = top / place.lstrip("/")
        for group in (folder, *folder.parents):
            bound, used = (_bytes(group / name) for name in names)
            most = min(most, bound)
            left = min(left, bound - used if used < math.inf else bound)
            if group == top:
                break
    return most, left


def _bytes(file: Path) -> float:
    try:
        return float(int(file.read_text()))
    except (OSError, ValueError):  # nothing there, or "max"
        return math.inf
