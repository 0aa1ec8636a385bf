"""Every tuning mode on small models: the trainable set, and one step that moves it and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from r2g import checkpoint
from r2g.config.paths import config_dir
from r2g.config.schema import RunConfig
from r2g.model import ReportGenerator, assemble
from r2g.session import tune
from r2g.tuning import PlanError, count, trainable

MODES = sorted(path.stem for path in Path(config_dir(), "tuning").glob("*.yaml"))
CPU = torch.device("cpu")
RANK, WIDTH = 16, {"swin": (8, 16, 32), "llama": 32}


def _kinds(module: nn.Module, *kinds: type) -> set[str]:
    return {
        f"{name}.{parameter}"
        for name, child in module.named_modules()
        if isinstance(child, kinds)
        for parameter, _ in child.named_parameters(recurse=False)
    }


def _lora_of_swin() -> int:
    """Query and value of one layer a stage: down to the rank and up again."""
    return sum(2 * 2 * width * RANK for width in WIDTH["swin"])


# What learns besides the projector, worked out from the plain networks: names before any adapter, or a count.
NAMES: dict[str, Callable[[ReportGenerator], set[str]]] = {
    "shallow": lambda model: set(),
    "deep": lambda model: {f"encoder.{n}" for n, _ in model.encoder.named_parameters()},
    "bitfit": lambda model: {
        f"encoder.{n}" for n, _ in model.encoder.named_parameters() if n.split(".")[-1].endswith("bias")
    },
    "norms": lambda model: {f"encoder.{n}" for n in _kinds(model.encoder, nn.LayerNorm)},
    "last_blocks": lambda model: {
        f"encoder.{n}" for n, _ in model.encoder.named_parameters() if "layers.2.blocks.0." in n
    },
}
# LoRA at 16 on query and value; DoRA adds a magnitude for each output; 16 words of the llm.
SIZES = {
    "delta": _lora_of_swin(),
    "dora": _lora_of_swin() + sum(2 * width for width in WIDTH["swin"]),
    "llm_lora": 2 * ((32 + 32) + (32 + 16)) * RANK,  # grouped queries: the value is half as wide
    "soft_prompt": 16 * 32,
}


@pytest.fixture(params=MODES)
def tuned(request: pytest.FixtureRequest, small: Callable[..., RunConfig]) -> Any:
    config = small(f"tuning={request.param}")
    model = assemble(config, CPU, torch.float32)
    plain = dict(model.named_parameters())
    expected = NAMES[request.param](model) if request.param in NAMES else None
    groups = tune(model, config)
    return request.param, config, model, plain, expected, groups


def test_every_mode_has_an_expectation() -> None:
    assert {*NAMES, *SIZES} == set(MODES)


def test_the_trainable_set_is_the_mode_s(tuned: Any) -> None:
    mode, _, model, plain, expected, groups = tuned
    learns = set(trainable(model))
    projector = {f"projector.{n}" for n, _ in model.projector.named_parameters()}
    assert projector <= learns
    assert {name for group in groups for name in group.names} == learns
    if expected is not None:
        assert learns - projector == expected
    else:
        added = {n: p for n, p in model.named_parameters() if id(p) not in {id(q) for q in plain.values()}}
        assert learns - projector == set(added)
        assert sum(p.numel() for p in added.values()) == SIZES[mode]
    total = sum(part.trainable for part in count(model))
    assert total == sum(p.numel() for p in trainable(model).values())


def test_one_step_moves_exactly_these(tuned: Any, studies: Callable[..., Any]) -> None:
    _, _, model, _, _, _ = tuned
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learns = trainable(model)
    # LoRA's A has no gradient in the first step, where B is zero: two steps move both.
    optimizer = torch.optim.AdamW(learns.values(), lr=0.1)
    for seed in range(2):
        model(studies(model, (1, 1, 1), (5, 7, 4), seed)).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    # A tensor without a path to the loss may stay; nothing but trainable ones may move.
    assert moved <= set(learns)
    assert {name for name in learns if _has_path(name)} <= moved


def _has_path(name: str) -> bool:
    """Softmax ignores what a key's bias adds to all scores alike: its gradient is rounding noise or zero."""
    return not name.endswith("k_proj.bias")


def test_wholly_frozen_parts_rest(tuned: Any) -> None:
    _, _, model, _, _, _ = tuned
    for part in ("encoder", "projector", "llm"):
        module = getattr(model, part)
        assert module.training == any(p.requires_grad for p in module.parameters())


@pytest.mark.usefixtures("untraced")
def test_saved_and_loaded_it_is_the_same(
    tuned: Any, studies: Callable[..., Any], small: Callable[..., RunConfig], tmp_path: Path
) -> None:
    mode, config, model, _, _, _ = tuned
    with torch.no_grad():
        for p in trainable(model).values():
            p.add_(0.1 * torch.randn(p.shape))
    checkpoint.save_trained(model, tmp_path / "t.safetensors")
    other = assemble(config, CPU, torch.float32)
    tune(other, config)
    batch = studies(model, (1, 1), (5, 3))
    model.eval()
    other.eval()
    assert not torch.equal(model(batch), other(batch))
    checkpoint.load_trained(other, tmp_path / "t.safetensors")
    assert torch.equal(model(batch), other(batch))
    wrong = small("tuning=deep" if mode == "shallow" else "tuning=shallow")
    refused = assemble(wrong, CPU, torch.float32)
    tune(refused, wrong)
    with pytest.raises(PlanError, match="another trainable set"):
        checkpoint.load_trained(refused, tmp_path / "t.safetensors")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_fits_the_shipped_models(mode: str, configured: Callable[..., RunConfig]) -> None:
    config = configured(f"tuning={mode}", "encoder=tiny", "llm=tiny", "encoder.weights=random", "track=none")
    model = assemble(config, torch.device("meta"), torch.bfloat16)
    tune(model, config)
    assert trainable(model)


def test_no_mode_s_name_is_in_the_code() -> None:
    """A mode is data. (soft_prompt is also the adapter's name, and deep and norms are plain words.)

    R2GenGPT's checkpoints name its modes, so what reads and writes those names them too.
    """
    import r2g

    names = {"shallow", "bitfit", "last_blocks", "llm_lora"}
    theirs = {"convert.py", "parity.py", "published.py"}
    for path in Path(r2g.__file__).parent.rglob("*.py"):
        if path.name in theirs:
            continue
        words = set(path.read_text().replace('"', " ").replace("'", " ").split())
        assert not names & words, path
