"""FLOPs of a training sample: those of a real step, at no cost to the run's random state."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from r2g import budget, model, session, walk
from r2g.config.schema import RunConfig
from r2g.core import memory
from r2g.core.types import Flops
from r2g.llms.base import PromptIds

_PROMPT = PromptIds((1, 2, 3), (4, 5))
Small = Callable[..., RunConfig]


@pytest.mark.parametrize("tuning", ["shallow", "delta", "deep"])
@pytest.mark.parametrize("more", [(), ("llm.checkpointing=true", "data.max_views=2")])
@pytest.mark.usefixtures("untraced")
def test_the_count_is_that_of_a_real_step(small: Small, tuning: str, more: tuple[str, ...]) -> None:
    config = small(f"tuning={tuning}", "train.micro_batch=2", "train.max_tokens=12", *more)
    whole = model.assemble(config, torch.device("cpu"), torch.float32)
    session.tune(whole, config)
    whole.llm.prompt = _PROMPT
    batch = walk.batch_of(whole, config)
    with FlopCounterMode(display=False, custom_mapping=memory._cpu_attention()) as counter:
        loss = whole(batch)
        forward = counter.get_total_flops()
        loss.backward()
    found = walk.flops_of(config, _PROMPT)
    assert found.forward == forward // 2 > 0
    assert found.backward == (counter.get_total_flops() - forward) // 2 > 0


def test_the_budget_command_says_the_same_but_for_the_prompt(small: Small) -> None:
    config = small("tuning=delta")
    assert walk.flops_of(config, budget._prompt(config)) == budget.cost(config).flops


def test_counting_leaves_random_states_alone(small: Small) -> None:
    config = small("tuning=delta", "train.max_tokens=12")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002 - its old state
    walk.flops_of(config, _PROMPT)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002 - and Python's own is the type checks'


def test_an_arm_s_seeds_are_counted_once(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def count(config: RunConfig, prompt: PromptIds) -> Flops:
        calls.append(config.seed)
        return Flops(2, 3)

    monkeypatch.setattr(walk, "flops_of", count)
    config, known = small(), {}
    told = [walk.told(replace(config, seed=seed), _PROMPT, "arm", known) for seed in (0, 1, 2)]
    assert told == [{"flops": {"forward": 2, "backward": 3}}] * 3
    assert calls == [0]


def test_a_model_that_can_t_be_walked_through_is_told(
    small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(config: RunConfig, prompt: PromptIds) -> Flops:
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(walk, "flops_of", fail)
    with caplog.at_level(logging.WARNING):
        told = walk.told(small(), _PROMPT, "arm", {})
    assert told == {"flops": None, "flops_absent": "NotImplementedError: no such kernel"}
    assert "no such kernel" in caplog.text
