"""How many bytes of tensors are alive while code runs, real or pretended, and the most that ever were."""

import sys
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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


class LiveBytes(TorchDispatchMode):
    """While inside, follows every storage that an operation makes until nobody holds it any more.

    `now` and `peak` count bytes of what was made inside; views and in-place results cost nothing. It works on fake
    tensors, where a whole training step is walked through without computing it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def ignore(self, module: torch.nn.Module) -> None:
        """Parameters and buffers that were there before don't count, although operations give views of them."""
        for tensor in (*module.parameters(), *module.buffers()):
            self._follow(tensor, counts=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002
        out = func(*args, **(kwargs or {}))
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
