"""What code costs while it runs, really or pretended: bytes of tensors alive, FLOPs; and a process's memory."""

import sys
import weakref
from typing import Any

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


def peak(device: torch.device) -> dict[str, Any]:
    """The most memory that this process ever had: `bytes`, and `what`: `cuda` (its tensors) or `resident` (all of it).

    Empty where the system doesn't tell.
    """
    if device.type == "cuda":
        return {"what": "cuda", "bytes": torch.cuda.max_memory_allocated(device)}
    try:
        import resource
    except ImportError:  # not a Unix
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"what": "resident", "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


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
