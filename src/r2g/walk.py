"""A training step walked through on tensors that have shapes and no values: its FLOPs, and the memory that it needs."""

import logging
import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from r2g import model, session, tuning
from r2g.config.schema import RunConfig
from r2g.core.memory import Work
from r2g.core.types import Flops
from r2g.llms.base import PromptIds

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Walk:
    """Bytes that the forward pass leaves for the backward, the most alive beyond the weights, and a sample's FLOPs.

    `entering` of `saved` are there when the llm begins, which then reads `positions` of the micro-batch.
    """

    saved: int
    entering: int
    positions: int
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
        return walk(whole, config).flops


def shapes(config: RunConfig) -> model.ReportGenerator:
    """The run's model, tuned, on the meta device: nothing is read or downloaded. Its llm has no prompt yet."""
    dtype = session.DTYPES[config.train.precision]
    whole = model.assemble(config, torch.device("meta"), dtype)
    whole.llm.network.to(dtype)  # as it is loaded: norms too
    session.tune(whole, config)
    return whole


def walk(whole: model.ReportGenerator, config: RunConfig) -> Walk:
    """Go through one micro-batch on fake tensors, which have a device, a dtype and a shape but no values.

    `whole` is on the meta device, and is spent afterwards. The CPU is pretended: its attention kernels hold on to as
    much as those of a GPU. Where a step has several micro-batches it is the second, which finds gradients there.
    """
    settings = config.train
    dtype = session.DTYPES[settings.precision]
    share = math.ceil(settings.batch_size / (settings.processes or 1))
    mixed = nullcontext() if dtype is torch.float32 else torch.autocast("cpu", dtype)
    with FakeTensorMode():
        whole._apply(lambda t: torch.empty(t.shape, dtype=t.dtype))  # to_empty refuses to mix meta with fake
        whole.llm.network.tie_weights()
        batch = batch_of(whole, config)
        work = Work()
        work.ignore(whole)
        with work:
            if share > settings.micro_batch:
                for parameter in tuning.trainable(whole).values():
                    parameter.grad = torch.empty_like(parameter)
            before = work.now
            with mixed:  # as `forward` of the model does it
                inputs, mask, start = whole.inputs(batch)
                entering, positions = work.now - before, inputs.shape[:2].numel()
                loss = whole.loss(whole.llm.hidden(inputs, mask), batch, start)
                del inputs, mask
            saved, forward = work.now - before, work.flops
            loss.backward()
            del loss
    each = settings.micro_batch
    return Walk(saved, entering, positions, work.peak, Flops(forward // each, (work.flops - forward) // each))


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
