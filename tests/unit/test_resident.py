"""What arms share on one llm, and what each keeps for itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from r2g import resident, session
from r2g.config.schema import RunConfig
from r2g.model import ReportGenerator

Small = Callable[..., RunConfig]


def _joined(configs: list[RunConfig]) -> list[ReportGenerator]:
    """The arms, settled one by one on one llm."""
    accelerator = Accelerator(cpu=True)
    shared = resident.reside(configs[0], accelerator.device, torch.float32)
    arms = []
    for config in configs:
        whole, _ = session.build(config, accelerator, resident.view(shared.llm))
        assert resident.settle(whole, config, shared)
        arms.append(whole)
    return arms


@pytest.mark.parametrize(("on", "times"), [("false", 1), ("true", 2)])
def test_checkpointing_is_that_of_the_config_on_the_shared_network_too(
    small: Small, studies: Callable[..., Any], on: str, times: int
) -> None:
    arms = _joined([small(f"llm.checkpointing={on}", f"seed={seed}") for seed in (0, 1)])
    assert arms[0].llm.network is arms[1].llm.network
    calls: list[int] = []
    arms[0].llm.network.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    for done, arm in enumerate(arms, 1):
        arm(studies(arm, (1,), (4,))).backward()
        assert len(calls) == times * done
