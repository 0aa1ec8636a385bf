"""python -m r2g.budget: what a config would cost, before any download: parameters, memory, FLOPs, checkpoint."""

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from r2g.config.sweep import Runs, compose_runs
from r2g.core.tables import table
from r2g.core.types import Flops

if TYPE_CHECKING:
    import torch

    from r2g.config.schema import RunConfig
    from r2g.llms.base import Load, PromptIds
    from r2g.model import ReportGenerator

_CHARACTERS = 4  # of English text a token
_TEMPLATE = 24  # tokens that a chat template puts around a message, about
_GB = 10**9


@dataclass(frozen=True)
class Memory:
    """Bytes on one process while it trains.

    `activations` is what the backward pass waits for after the forward one, `before_llm` the encoder's and projector's
    share of it. `peak` is not the sum of the others: it comes from walking through a step, where gradients come as
    activations go. `writing` is the llm's cache of keys and values at the end of a batch of reports; they are
    written when nothing trains.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    before_llm: int
    writing: int
    peak: int


@dataclass(frozen=True)
class Cost:
    """All that `python -m r2g.budget` says. `budget` is what a run's record holds too; checkpoints in bytes.

    `positions` are those that a micro-batch has in the llm.
    """

    budget: dict[str, Any]
    memory: Memory
    flops: Flops
    trained_bytes: int
    checkpoint_bytes: int
    prompt_tokens: int
    report_tokens: int
    micro_batch: int
    positions: int


def cost(config: "RunConfig") -> Cost:
    """What a run of this config costs. Nothing is read, downloaded or computed; no data is needed.

    A `budget_match` is solved first.
    Reports count as `train.max_tokens` long and studies as having all their views: the worst case. The prompt's
    length is a guess from its characters, since a tokenizer would have to be downloaded.
    """
    from r2g import checkpoint, matching, session, tuning, walk

    config = matching.matched(config)
    whole = walk.shapes(config)
    learns = tuning.trainable(whole).values()
    gradients = sum(p.numel() * p.element_size() for p in learns)
    trained = sum(t.numel() * t.element_size() for t in checkpoint.trained_state(whole).values())
    weights, unpacked = _weights(whole, config.llm.load)
    prompt = _prompt(config)
    whole.llm.prompt = prompt
    step = walk.walk(whole, config)
    moments = 2 * gradients  # AdamW keeps two values for each that learns
    update = 2 * gradients  # the gradients, and the update as it is applied
    memory = Memory(
        weights=weights,
        gradients=gradients,
        optimizer=moments,
        activations=step.saved,
        before_llm=step.entering,
        writing=_writing(whole, config, step.positions),
        peak=weights + moments + max(step.peak + unpacked, update),
    )
    return Cost(
        budget=session.budget_of(whole, config),
        memory=memory,
        flops=step.flops,
        trained_bytes=trained,
        checkpoint_bytes=trained + moments,
        prompt_tokens=len(prompt.before) + len(prompt.after),
        report_tokens=config.train.max_tokens,
        micro_batch=config.train.micro_batch,
        positions=step.positions,
    )


def _writing(whole: "ReportGenerator", config: "RunConfig", positions: int) -> int:
    """Bytes of keys and values when the longest report ends, of all beams."""
    from r2g.session import DTYPES

    shape = whole.llm.network.config.get_text_config()
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    each = 2 * shape.num_hidden_layers * heads * width * DTYPES[config.train.precision].itemsize
    prefix = positions // config.train.micro_batch - (config.train.max_tokens - 1)
    return config.decode.batch_size * config.decode.beams * (prefix + config.decode.max_tokens) * each


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


def show(found: Cost) -> str:
    """The cost as tables."""
    parts: list[list[object]] = [
        [name, p["trainable"], p["total"], 100 * p["trainable"] / p["total"]]
        for name, p in found.budget["parts"].items()
    ]
    whole = found.budget
    parts.append(["in all", whole["trainable"], whole["total"], whole["trainable_percent"]])
    memory = [[name.replace("_", " "), size / _GB] for name, size in asdict(found.memory).items()]
    work = [[name, n / _GB] for name, n in asdict(found.flops).items()]
    files = [["trained parameters", found.trained_bytes / _GB], ["to resume", found.checkpoint_bytes / _GB]]
    return "\n\n".join(
        [
            table(["part", "trainable", "total", "%"], parts),
            table([f"memory, micro-batch {found.micro_batch}", "GB"], memory),
            table(["per training sample", "GFLOP"], work),
            table(["checkpoint", "GB"], files),
            *([_fit(found)] if "match" in whole else []),
            f"Counted for reports of {found.report_tokens} tokens (the longest) and a prompt of about "
            f"{found.prompt_tokens} (guessed from its characters). GB are 10^9 bytes on one process, without the "
            "libraries' own.",
        ]
    )


@dataclass(frozen=True)
class ArmCost:
    """What an arm of a sweep costs. `samples` are those of one run, None if only the data could tell."""

    title: str
    runs: int
    samples: int | None
    cost: Cost

    @property
    def teraflop(self) -> float | None:
        """Training alone, over all runs of the arm."""
        each = self.cost.flops.forward + self.cost.flops.backward
        return None if self.samples is None else self.runs * self.samples * each / 10**12


def arms(found: Runs, studies: int | None) -> list[ArmCost]:
    """The runs of a sweep as arms: those that differ in their seed alone are counted once."""
    from r2g import record
    from r2g.config.resolve import to_tree

    groups: dict[str, list[int]] = {}
    for i, config in enumerate(found.configs):
        groups.setdefault(record.run_id(to_tree(config), seed=False), []).append(i)
    told = []
    for members in groups.values():
        config, title = found.configs[members[0]], found.titles[members[0]]
        title = " ".join(word for word in title.split() if not word.startswith("seed="))
        runs = found.trials or len(members)
        told.append(ArmCost(title or "(as it is)", runs, _samples(config, studies), cost(config)))
    return told


def _samples(config: "RunConfig", studies: int | None) -> int | None:
    """Studies that a run sees while it trains, if patience doesn't end it earlier."""
    settings = config.train
    if settings.steps is not None:
        return settings.steps * settings.batch_size
    known = studies or getattr(config.data, "train", None)
    return None if known is None or settings.epochs is None else settings.epochs * known


def show_arms(found: Sequence[ArmCost]) -> str:
    """A sweep's cost as one table, with what it comes to."""
    columns = [
        "arm",
        "runs",
        "trainable",
        "%",
        "peak GB",
        "checkpoint GB",
        "GFLOP a sample",
        "samples",
        "TFLOP",
    ]
    rows: list[list[object]] = [
        [arm.title, arm.runs, *_figures(arm), arm.samples, arm.teraflop] for arm in found
    ]
    work = [arm.teraflop for arm in found]
    known = None if None in work else sum(w for w in work if w is not None)
    seen = None if known is None else sum(arm.runs * (arm.samples or 0) for arm in found)
    peak = max(arm.cost.memory.peak for arm in found) / _GB
    files = sum(arm.runs * arm.cost.trained_bytes for arm in found) / _GB
    rows.append(["in all", sum(arm.runs for arm in found), None, None, peak, files, None, seen, known])
    fits = [f"{arm.title}: {_fit(arm.cost)}" for arm in found if "match" in arm.cost.budget]
    unknown = (
        ["Samples of runs counted in epochs: give --studies, the number in train."] if known is None else []
    )
    notes = [
        "peak GB is of one process (in all: the largest); checkpoint GB of the trained parameters (in all: of all "
        "runs). TFLOP are those of training, for all of an arm's runs; validating and writing reports come on top."
    ]
    return "\n\n".join(
        [table(columns, rows), *(["\n".join(fits)] if fits else []), "\n".join(notes + unknown)]
    )


def _figures(arm: ArmCost) -> list[object]:
    found = arm.cost
    work = (found.flops.forward + found.flops.backward) / _GB
    whole = found.budget
    return [
        whole["trainable"],
        whole["trainable_percent"],
        found.memory.peak / _GB,
        found.trained_bytes / _GB,
        work,
    ]


def _fit(found: Cost) -> str:
    from r2g import show

    return show.match(found.budget["match"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m r2g.budget", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for python -m r2g.run, e.g. +experiment=lora_mimic")
    parser.add_argument("-cd", "--config-dir", help="a folder of sweeps, as for r2g.run")
    parser.add_argument("-cn", "--config-name", default="config", help="the sweep's name in that folder")
    parser.add_argument("-m", "--multirun", action="store_true", help="the overrides name several runs")
    parser.add_argument("--studies", type=int, help="studies in train, where runs are counted in epochs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _tell(words: argparse.Namespace) -> str:
    found = compose_runs(words.overrides, words.config_dir, words.config_name, words.multirun)
    if not found.many:
        one = cost(found.configs[0])
        return json.dumps(asdict(one)) if words.json else show(one)
    told = arms(found, words.studies)
    return json.dumps([asdict(arm) for arm in told]) if words.json else show_arms(told)


def main() -> None:
    """The entry point: the words of r2g.run, and --json."""
    from hydra.errors import HydraException

    from r2g.config.resolve import ConfigError
    from r2g.tuning import PlanError

    try:
        told = _tell(_parser().parse_intermixed_args())
    except (ConfigError, HydraException, PlanError) as error:
        sys.exit(str(error))
    print(told)  # noqa: T201 - what a command says to its user


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
