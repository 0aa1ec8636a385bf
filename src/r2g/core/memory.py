"""What code costs while it runs, really or pretended: bytes of tensors alive, FLOPs; and a process's memory."""

import ctypes
import gc
import sys
import weakref
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
    shape_wrapper,
)

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class Peak:
    """The most memory that this process has from here on, and until another one begins."""

    _latest: ClassVar["Peak | None"] = None

    def __init__(self, device: torch.device) -> None:
        self._device = device
        _give_back()
        # Where the mark stays up, it is still right for the first that a process watches.
        self._known = _restart(device) or Peak._latest is None
        Peak._latest = self

    def told(self) -> dict[str, Any]:
        """`bytes`, and `what`: `cuda` (tensors on the GPU) or `resident` (all of the process).

        Empty where the system doesn't tell, or not apart from what earlier runs of the process took.
        """
        highest = _highest(self._device) if self._known and Peak._latest is self else None
        what = "cuda" if self._device.type == "cuda" else "resident"
        return {} if highest is None else {"what": what, "bytes": highest}


def _give_back() -> None:
    """What earlier runs freed goes back to the system, which counts it as ours while the allocator holds it.

    Without this, a small run after one of a third more memory was told to have taken nearly as much as that.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # glibc has it
        trim(0)


def _restart(device: torch.device) -> bool:
    """Set the high-water mark down to what is held now, if the system lets us."""
    if device.type == "cuda":
        torch.cuda.init()  # nothing is counted before
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR.write_text("5")  # Linux; see proc_pid_clear_refs(5)
    except OSError:
        return False
    return True


def _highest(device: torch.device) -> int | None:
    """The high-water mark in bytes; None where the system doesn't tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # There, getrusage also counts the process that started this one, and can't be reset.
    if sys.platform == "linux":
        marks = [line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        return 1024 * int(marks[0]) if marks else None
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Work(TorchDispatchMode):
    """What the operations inside cost: `flops`, and the bytes of tensors alive, `now` and at the `peak`.

    A multiply and an add are two FLOPs. Every storage that an operation makes is followed until nobody holds it any
    more; views and in-place results cost nothing. It works on fake tensors, where a whole training step is walked
    through without computing it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()
        self._counts = {
            **flop_registry,
            **{op: shape_wrapper(count) for op, count in _cpu_attention().items()},
        }

    def ignore(self, module: torch.nn.Module) -> None:
        """Parameters and buffers that were there before don't count, although operations give views of them."""
        for tensor in (*module.parameters(), *module.buffers()):
            self._follow(tensor, counts=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002
        if (
            func is torch.ops.prim.device.default
        ):  # most of all calls on fake tensors; the long way takes half the time
            return args[0].fake_device if isinstance(args[0], FakeTensor) else func(*args)
        out = func(*args, **(kwargs or {}))
        count = self._counts.get(func._overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf, counts=True)
        self.peak = max(self.peak, self.now)
        return out

    def _follow(self, tensor: torch.Tensor, counts: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if counts else 0
        self._known.add(key)
        self.now += size
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _cpu_attention() -> dict[Any, Any]:
    """FLOPs of the CPU's attention kernels, which torch's registry leaves out (it knows those of GPUs)."""

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
