"""A training step walked through on tensors that have shapes and no values: its FLOPs, and the memory that it needs."""

import logging
import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from r2g import model, session
from r2g.config.schema import RunConfig
from r2g.core.memory import LiveBytes
from r2g.core.types import Flops
from r2g.llms.base import PromptIds

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Walk:
    """Bytes alive beyond the weights after the first forward pass and at most, and the FLOPs of a training sample.

    The bytes are 0 where nobody asked for them.
    """

    saved: int
    peak: int
    flops: Flops


def told(
    config: RunConfig, prompt: PromptIds | None, arm: str, known: dict[str, Flops]
) -> dict[str, dict[str, int] | str | None]:
    """What a run's record says of its FLOPs; `known` are those of arms so far: an arm's seeds cost the same.

    A model that can't be walked through is trained all the same: the count changes nothing about the run, and the
    record says why there is none.
    """
    try:
        if prompt is None:
            raise ValueError("the llm has no prompt")
        if arm not in known:
            known[arm] = flops_of(config, prompt)
    except Exception as error:
        absent = f"{type(error).__name__}: {error}"
        _LOG.warning("this model's FLOPs can't be counted (%s); its record says so", absent)
        return {"flops": None, "flops_absent": absent}
    return {"flops": asdict(known[arm])}


def flops_of(config: RunConfig, prompt: PromptIds) -> Flops:
    """FLOPs of a training sample of this run: of all three parts, whatever a cache will spare.

    Reports count as `train.max_tokens` long and studies as having all their views. No random state is touched.
    """
    with torch.random.fork_rng(devices=[]):
        whole = shapes(config)
        whole.llm.prompt = prompt
        return walk(whole, config, bytes_too=False).flops


def shapes(config: RunConfig) -> model.ReportGenerator:
    """The run's model, tuned, on the meta device: nothing is read or downloaded. Its llm has no prompt yet."""
    dtype = session.DTYPES[config.train.precision]
    whole = model.assemble(config, torch.device("meta"), dtype)
    whole.llm.network.to(dtype)  # as it is loaded: norms too
    session.tune(whole, config)
    return whole


def walk(whole: model.ReportGenerator, config: RunConfig, bytes_too: bool = True) -> Walk:
    """Go through one optimizer step on fake tensors, which have a device, a dtype and a shape but no values.

    `whole` is on the meta device, and is spent afterwards. The CPU is pretended: its attention kernels hold on to as
    much as those of a GPU. Micro-batches after the second cost what the second costs, in FLOPs after the first.
    """
    settings = config.train
    dtype = session.DTYPES[settings.precision]
    share = math.ceil(settings.batch_size / (settings.processes or 1))
    rounds = min(2, math.ceil(share / settings.micro_batch)) if bytes_too else 1
    mixed = nullcontext() if dtype is torch.float32 else torch.autocast("cpu", dtype)
    with FakeTensorMode():
        whole._apply(lambda t: torch.empty(t.shape, dtype=t.dtype))  # to_empty refuses to mix meta with fake
        whole.llm.network.tie_weights()
        batch = batch_of(whole, config)
        counter, live = FlopCounterMode(display=False, custom_mapping=_attention()), LiveBytes()
        live.ignore(whole)
        with live if bytes_too else nullcontext(), counter:
            for i in range(rounds):
                with mixed:
                    loss = whole(batch)
                if i == 0:
                    saved, forward = live.now, counter.get_total_flops()
                loss.backward()
                del loss
    backward = counter.get_total_flops() // rounds - forward
    each = settings.micro_batch
    return Walk(saved, live.peak, Flops(forward // each, backward // each))


def _attention() -> dict[Any, Any]:
    """FLOPs of the CPU's attention kernels, which torch's counter leaves out (it knows those of GPUs)."""

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


def batch_of(whole: model.ReportGenerator, config: RunConfig) -> model.Batch:
    """A micro-batch in which every study has all its views and a report of full length."""
    count, views, length = config.train.micro_batch, config.data.views, config.train.max_tokens
    preprocess: Any = whole.encoder.preprocess
    size, channels = preprocess.size, preprocess.channels
    return model.Batch(
        ids=tuple(map(str, range(count))),
        images=torch.zeros(count, views, channels, size, size, dtype=torch.uint8),
        view_mask=torch.ones(count, views, dtype=torch.bool),
        films=torch.arange(count * views),
        tokens=torch.zeros(count, length, dtype=torch.long),
        targets=torch.arange(count * length),
    )
