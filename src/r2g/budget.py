"""python -m r2g.budget: what a config would cost, before any download: parameters, memory, FLOPs, checkpoint."""

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2g.config.cli import lenient
from r2g.config.paths import config_dir
from r2g.core.tables import table

if TYPE_CHECKING:
    import torch

    from r2g.config.schema import RunConfig
    from r2g.llms.base import Load, PromptIds
    from r2g.model import Batch, ReportGenerator

_CHARACTERS = 4  # of English text a token
_TEMPLATE = 24  # tokens that a chat template puts around a message, about
_GB = 10**9


@dataclass(frozen=True)
class Memory:
    """Bytes on one process while it trains.

    `activations` is what the backward pass waits for after the forward one. `peak` is not the sum of the others: it
    comes from walking through a step, where gradients come as activations go.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int


@dataclass(frozen=True)
class Flops:
    """Floating-point operations for one training sample; a multiply and an add are two."""

    forward: int
    backward: int


@dataclass(frozen=True)
class Cost:
    """All that `python -m r2g.budget` says. `budget` is what a run's record holds too; checkpoints in bytes."""

    budget: dict[str, Any]
    memory: Memory
    flops: Flops
    trained_bytes: int
    checkpoint_bytes: int
    prompt_tokens: int
    report_tokens: int
    micro_batch: int


@dataclass(frozen=True)
class _Walk:
    """A training step walked through: bytes alive beyond the weights, and FLOPs of one micro-batch."""

    saved: int
    peak: int
    forward: int
    backward: int


def compose(overrides: Sequence[str]) -> "RunConfig":
    """The settings that `python -m r2g.run` would get from the same words. Raises ConfigError, or Hydra's own."""
    import hydra

    from r2g.config.resolve import resolve

    folder = str(Path(config_dir()).resolve())
    groups = [p.name for p in Path(folder).iterdir() if p.is_dir()]
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        return resolve(hydra.compose("config", overrides=lenient(overrides, groups)))


def cost(config: "RunConfig") -> Cost:
    """What a run of this config costs. Nothing is read, downloaded or computed; no data is needed.

    Reports count as `train.max_tokens` long and studies as having all their views: the worst case. The prompt's
    length is a guess from its characters, since a tokenizer would have to be downloaded.
    """
    import torch

    from r2g import checkpoint, model, session, tuning

    dtype = session.DTYPES[config.train.precision]
    whole = model.assemble(config, torch.device("meta"), dtype)
    whole.llm.network.to(dtype)  # as it is loaded: norms too
    session.tune(whole, config)
    learns = tuning.trainable(whole).values()
    gradients = sum(p.numel() * p.element_size() for p in learns)
    trained = sum(t.numel() * t.element_size() for t in checkpoint.trained_state(whole).values())
    weights, unpacked = _weights(whole, config.llm.load)
    prompt = _prompt(config)
    whole.llm.prompt = prompt
    walk = _walk(whole, config, dtype)
    moments = 2 * gradients  # AdamW keeps two values for each that learns
    update = 2 * gradients  # the gradients, and the update as it is applied
    memory = Memory(
        weights=weights,
        gradients=gradients,
        optimizer=moments,
        activations=walk.saved,
        peak=weights + moments + max(walk.peak + unpacked, update),
    )
    micro = config.train.micro_batch
    return Cost(
        budget=session.budget_of(whole),
        memory=memory,
        flops=Flops(walk.forward // micro, walk.backward // micro),
        trained_bytes=trained,
        checkpoint_bytes=trained + moments,
        prompt_tokens=len(prompt.before) + len(prompt.after),
        report_tokens=config.train.max_tokens,
        micro_batch=micro,
    )


def _weights(whole: "ReportGenerator", load: "Load") -> tuple[int, int]:
    """Bytes of all weights, and of the largest quantized one while it is unpacked for a product."""
    from torch import nn

    from r2g.llms.base import Load

    state = {id(t): t for t in (*whole.parameters(), *whole.buffers())}
    plain = sum(t.numel() * t.element_size() for t in state.values())
    if load is Load.bits16:
        return plain, 0
    head = whole.llm.network.get_output_embeddings()
    packed = [
        m.weight
        for m in whole.llm.network.modules()
        if isinstance(m, nn.Linear) and m is not head and not m.weight.requires_grad
    ]
    before = sum(w.numel() * w.element_size() for w in packed)
    after = sum(_packed(w, load) for w in packed)
    return plain - before + after, max(w.numel() * w.element_size() for w in packed)


def _packed(weight: "torch.Tensor", load: "Load") -> int:
    """Bytes of a matrix in bitsandbytes' formats: int8 with a scale a row, or nf4 with a scale every 64 weights."""
    from r2g.llms.base import Load

    if load is Load.bits8:
        return weight.numel() + 4 * weight.shape[0]
    return weight.numel() // 2 + 4 * math.ceil(weight.numel() / 64)


def _prompt(config: "RunConfig") -> "PromptIds":
    """As many ids as the prompt probably has; which ones doesn't matter here."""
    from r2g.llms.base import PromptIds, Style

    prompt = config.llm.prompt
    before, after = (math.ceil(len(text) / _CHARACTERS) for text in (prompt.before, prompt.after))
    around = _TEMPLATE if prompt.style is Style.chat else 1  # 1: BOS
    return PromptIds((0,) * (before + around), (0,) * after)


def _walk(whole: "ReportGenerator", config: "RunConfig", dtype: "torch.dtype") -> _Walk:
    """Go through one optimizer step on fake tensors, which have a device, a dtype and a shape but no values.

    The CPU is pretended: its attention kernels hold on to as much as those of a GPU. Micro-batches after the second
    cost what the second costs.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from r2g.core.memory import LiveBytes

    settings = config.train
    share = math.ceil(settings.batch_size / (settings.processes or 1))
    rounds = min(2, math.ceil(share / settings.micro_batch))
    mixed = nullcontext() if dtype is torch.float32 else torch.autocast("cpu", dtype)
    with FakeTensorMode():
        whole._apply(lambda t: torch.empty(t.shape, dtype=t.dtype))  # to_empty refuses to mix meta with fake
        whole.llm.network.tie_weights()
        batch = _batch(whole, config)
        counter, live = FlopCounterMode(display=False, custom_mapping=_attention()), LiveBytes()
        live.ignore(whole)
        with live, counter:
            for i in range(rounds):
                with mixed:
                    loss = whole(batch)
                if i == 0:
                    saved, forward = live.now, counter.get_total_flops()
                loss.backward()
                del loss
    return _Walk(saved, live.peak, forward, counter.get_total_flops() // rounds - forward)


def _attention() -> dict[Any, Any]:
    """FLOPs of the CPU's attention kernels, which torch's counter leaves out (it knows those of GPUs)."""
    import torch
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


def _batch(whole: "ReportGenerator", config: "RunConfig") -> "Batch":
    """A micro-batch in which every study has all its views and a report of full length."""
    import torch

    from r2g.model import Batch

    count, views, length = config.train.micro_batch, config.data.views, config.train.max_tokens
    preprocess: Any = whole.encoder.preprocess
    size, channels = preprocess.size, preprocess.channels
    return Batch(
        ids=tuple(map(str, range(count))),
        images=torch.zeros(count, views, channels, size, size, dtype=torch.uint8),
        view_mask=torch.ones(count, views, dtype=torch.bool),
        films=torch.arange(count * views),
        tokens=torch.zeros(count, length, dtype=torch.long),
        targets=torch.arange(count * length),
    )


def show(found: Cost) -> str:
    """The cost as tables."""
    parts: list[list[object]] = [
        [name, p["trainable"], p["total"], 100 * p["trainable"] / p["total"]]
        for name, p in found.budget["parts"].items()
    ]
    whole = found.budget
    parts.append(["in all", whole["trainable"], whole["total"], whole["trainable_percent"]])
    memory = [[name, size / _GB] for name, size in asdict(found.memory).items()]
    work = [[name, n / _GB] for name, n in asdict(found.flops).items()]
    files = [["trained parameters", found.trained_bytes / _GB], ["to resume", found.checkpoint_bytes / _GB]]
    return "\n\n".join(
        [
            table(["part", "trainable", "total", "%"], parts),
            table([f"memory, micro-batch {found.micro_batch}", "GB"], memory),
            table(["per training sample", "GFLOP"], work),
            table(["checkpoint", "GB"], files),
            f"Counted for reports of {found.report_tokens} tokens (the longest) and a prompt of about "
            f"{found.prompt_tokens} (guessed from its characters). GB are 10^9 bytes on one process, without the "
            "libraries' own.",
        ]
    )


def main() -> None:
    """The entry point: the words of r2g.run, and --json."""
    from hydra.errors import HydraException

    from r2g.config.resolve import ConfigError
    from r2g.tuning import PlanError

    parser = argparse.ArgumentParser(prog="python -m r2g.budget", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for python -m r2g.run, e.g. +experiment=lora_mimic")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    words = parser.parse_intermixed_args()
    try:
        found = cost(compose(words.overrides))
    except (ConfigError, HydraException, PlanError) as error:
        sys.exit(str(error))
    told = json.dumps(asdict(found)) if words.json else show(found)
    print(told)  # noqa: T201 - what a command says to its user


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
