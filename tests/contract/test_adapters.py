"""What every adapter must do: it starts as if it weren't there, learns, and touches nothing that stood before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from r2g.config.paths import config_dir
from r2g.config.schema import RunConfig
from r2g.core.slots import ADAPTERS
from r2g.model import assemble
from r2g.tuning import attach

# Every adapter of every tuning file: (file, label).
CASES = [
    (path.stem, label)
    for path in sorted(Path(config_dir(), "tuning").glob("*.yaml"))
    for label in yaml.safe_load(path.read_text())["adapters"]
]


@pytest.fixture(params=CASES, ids=lambda case: case[0])
def case(request: pytest.FixtureRequest, small: Callable[..., RunConfig]) -> Any:
    mode, label = request.param
    config = small(f"tuning={mode}")
    model = assemble(config, torch.device("cpu"), torch.float32).eval()
    roles = {"encoder": config.encoder.roles, "llm": config.llm.roles}
    before = {id(p): p.detach().clone() for p in model.parameters()}
    return model, config.tuning, roles, label, before


def test_every_kind_is_tested(small: Callable[..., RunConfig]) -> None:
    kinds = {small(f"tuning={mode}").tuning.adapters[label].kind for mode, label in CASES}
    assert kinds == set(ADAPTERS.names())


def test_adds_parameters_to_its_part_alone_and_keeps_the_rest(case: Any) -> None:
    model, plan, roles, label, before = case
    sizes = {part: sum(1 for _ in getattr(model, part).parameters()) for part in ("encoder", "llm")}
    attach(model, plan, roles)
    part = plan.adapters[label].part.value
    other = {"encoder": "llm", "llm": "encoder"}[part]
    assert sum(1 for _ in getattr(model, part).parameters()) > sizes[part]
    assert sum(1 for _ in getattr(model, other).parameters()) == sizes[other]
    kept = {id(p): p for p in model.parameters() if id(p) in before}
    assert kept.keys() == before.keys(), "the pretrained tensors are the very ones that stood there"
    assert all(torch.equal(kept[key], before[key]) for key in before)


def test_starts_without_effect_on_the_part_s_output(case: Any) -> None:
    model, plan, roles, label, _ = case
    part = plan.adapters[label].part.value

    def output() -> torch.Tensor:
        if part == "encoder":
            return model.encoder(torch.full((1, 3, 32, 32), 0.3))
        return model.llm.hidden(model.llm.embed(torch.tensor([[1, 4, 6]])), None)

    with torch.no_grad():
        plain = output()
        attach(model, plan, roles)
        torch.testing.assert_close(output(), plain, rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_new_parameter(case: Any, studies: Callable[..., Any]) -> None:
    model, plan, roles, _, before = case
    attach(model, plan, roles)
    new = {name: p for name, p in model.named_parameters() if id(p) not in before}
    for p in new.values():
        p.requires_grad_(True)
        with torch.no_grad():
            p.add_(0.01 * torch.randn(p.shape))  # LoRA's B starts at zero, behind which A has no gradient
    model(studies(model, (1, 1), (4, 6))).backward()
    assert not [name for name, p in new.items() if p.grad is None or not p.grad.abs().sum() > 0]
