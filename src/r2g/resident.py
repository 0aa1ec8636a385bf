"""What the arms of a gang have in common: one llm in memory, encoders that rest, data read and tokenized once."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from r2g import frozen
from r2g.config.schema import FrozenMode, RunConfig
from r2g.core.types import Flops
from r2g.data import Loaders
from r2g.llms.base import LanguageModel
from r2g.model import ReportGenerator


@dataclass
class Resident:
    """Filled by the first arm, taken up by the others."""

    llm: LanguageModel
    encoders: dict[str, nn.Module] = field(default_factory=dict)
    loaders: Loaders | None = None
    flops: dict[str, Flops] = field(default_factory=dict)  # by arm: its seeds cost the same


def reside(config: RunConfig, device: torch.device, dtype: torch.dtype) -> Resident:
    """Build the llm of these arms, frozen and at rest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        llm = config.llm.build(device, dtype).to(device)
    llm.requires_grad_(False)
    llm.use_checkpointing(config.llm.checkpointing)
    return Resident(llm.eval())


def view(llm: LanguageModel) -> LanguageModel:
    """An llm that can be tuned on its own and holds the same weights in memory, until some of them learn."""
    held: dict[int, Any] = {
        id(p): nn.Parameter(p.data, requires_grad=False) if type(p) is nn.Parameter else p
        for p in llm.network.parameters()
    }
    held |= {id(b): b for b in llm.network.buffers()}
    return LanguageModel(copy.deepcopy(llm.network, held), llm.tokenizer, llm.prompt)


def settle(whole: ReportGenerator, config: RunConfig, resident: Resident) -> bool:
    """After tuning: share what stayed as it was; True if the llm's network did, so that the arm can join a gang.

    Parameters that learn get memory of their own.
    """
    for parameter in whole.llm.network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.clone()
    rests = config.tuning.frozen_mode is FrozenMode.eval and whole.llm.soft_prompt is None
    joins = _untouched(whole.llm.network, resident.llm.network) and (
        rests or not _draws(resident.llm.network)
    )
    if joins:
        whole.llm.network = resident.llm.network
    encoder: Any = whole.encoder
    if frozen.rests(encoder):
        whole.encoder = resident.encoders.setdefault(frozen.identity(encoder), encoder)
    return joins


def _untouched(network: nn.Module, before: nn.Module) -> bool:
    names = [name for name, _ in network.named_parameters()]
    same = names == [name for name, _ in before.named_parameters()]
    return same and not any(p.requires_grad for p in network.parameters())


def _draws(network: Any) -> bool:
    """Whether the network draws random numbers in train mode."""
    settings = network.config.get_text_config().to_dict()
    rates = [v for k, v in settings.items() if "drop" in k and isinstance(v, int | float)]
    return any(rates) or any(isinstance(m, nn.Dropout) and m.p > 0 for m in network.modules())
