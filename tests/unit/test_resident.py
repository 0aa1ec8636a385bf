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


@pytest.mark.parametrize("change", ["encoder.select=pooled", "encoder.size=64", "encoder.std=[0.4,0.4,0.4]"])
def test_arms_share_an_encoder_only_where_it_gives_the_same_patches(small: Small, change: str) -> None:
    configs = [small("seed=0"), small(change), small("seed=1")]
    first, other, again = _joined(configs)
    assert first.encoder is again.encoder
    assert other.encoder is not first.encoder
    films = torch.randint(0, 256, (2, 3, 64 if "size" in change else 32, 64 if "size" in change else 32))
    alone, _ = session.build(configs[1], Accelerator(cpu=True))
    bytes_ = films.to(torch.uint8)
    torch.testing.assert_close(other.patches(bytes_), alone.patches(bytes_))
