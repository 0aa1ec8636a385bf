"""How fast a device multiplies matrices in a dtype: some CPUs only emulate bf16, a hundred times slower than fp32."""

import time

import torch

_SIDE = 256


def slowdown(dtype: torch.dtype, device: torch.device) -> float:
    """How many times as long a product of two 256 x 256 matrices takes in `dtype` as in fp32 (best of three)."""
    return _seconds(dtype, device) / _seconds(torch.float32, device)


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
    taken = []
    for _ in range(4):  # the first one only warms up
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a value waits for the device
        taken.append(time.perf_counter() - started)
    return min(taken[1:])
