"""The budget command: published counts, and an estimate that a real training step confirms."""

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2g import budget
from r2g.config.compose import compose

pytestmark = pytest.mark.usefixtures("untraced")  # test_walk.py reaches what is walked here

_SMALL = [
    *(
        "encoder=swin_base",
        "encoder.weights=random",
        "encoder.shape.embed_dim=64",
        "encoder.shape.depths=[2,2,2,2]",
    ),
    "train.precision=bf16",
    *("encoder.shape.num_heads=[2,4,8,16]", "llm=llama2_7b_chat", "llm.source=nobody/small"),
    *("llm.shape.vocab_size=8000", "llm.shape.hidden_size=512", "llm.shape.intermediate_size=1376"),
    *("llm.shape.num_hidden_layers=8", "llm.shape.num_attention_heads=8", "llm.shape.num_key_value_heads=8"),
    *("train.batch_size=8", "train.micro_batch=8", "train.max_tokens=60", "train.device=cpu"),
]


@pytest.mark.parametrize(
    ("experiment", "trainable", "total"),
    [
        ("shallow_mimic", 4_206_592, 6_829_365_432),
        ("lora_mimic", 4_976_640, 6_830_135_480),
        ("deep_mimic", 90_949_816, 6_829_365_432),
    ],
)
def test_r2gengpts_modes_cost_what_the_paper_says(experiment: str, trainable: int, total: int) -> None:
    found = budget.cost(compose([f"+experiment={experiment}", "train.micro_batch=1", "data.root=null"]))
    assert (found.budget["trainable"], found.budget["total"]) == (trainable, total)
    assert found.memory.gradients == 4 * trainable
    assert found.memory.optimizer == 8 * trainable
    assert found.trained_bytes >= 4 * trainable
    assert 13.4e9 < found.memory.weights < 14.3e9  # bf16, the encoder in fp32 where it learns


@pytest.mark.parametrize("mode", ["shallow", "lora", "deep"])
def test_the_two_datasets_of_the_paper_differ_only_in_settings(mode: str) -> None:
    mimic, iu = (compose([f"+experiment={mode}_{data}"]) for data in ("mimic", "iu"))
    assert (mimic.tuning, mimic.encoder, mimic.llm) == (iu.tuning, iu.encoder, iu.llm)
    assert (iu.train.batch_size, iu.train.epochs, iu.train.max_tokens, iu.train.evals) == (16, 15, 60, 15)


def test_a_frozen_encoder_has_no_backward() -> None:
    costs = {mode: budget.cost(compose([*_SMALL, f"tuning={mode}"])) for mode in ("shallow", "deep")}
    assert costs["shallow"].flops.forward == costs["deep"].flops.forward
    assert costs["shallow"].flops.backward < costs["deep"].flops.backward
    assert costs["shallow"].memory.activations < costs["deep"].memory.activations


def test_checkpointing_trades_memory_for_work() -> None:
    plain, again = (budget.cost(compose([*_SMALL, f"llm.checkpointing={on}"])) for on in (False, True))
    assert again.memory.peak < plain.memory.peak
    assert again.flops.backward > 1.3 * plain.flops.backward
    assert again.flops.forward == plain.flops.forward


def test_quantized_matrices_weigh_less_and_the_rest_stays() -> None:
    loads = ("16bit", "8bit", "4bit")
    sixteen, eight, four = (budget.cost(compose([*_SMALL, f"llm.load={load}"])) for load in loads)
    matrices = 8 * (4 * 512 * 512 + 3 * 512 * 1376)
    rows = 8 * (4 * 512 + 2 * 1376 + 512)
    assert sixteen.memory.weights - eight.memory.weights == matrices - 4 * rows
    assert sixteen.memory.weights - four.memory.weights == matrices * 3 // 2 - matrices // 16
    assert sixteen.budget == eight.budget == four.budget


def test_more_views_side_by_side_are_more_tokens() -> None:
    mean, concat = (
        budget.cost(compose([*_SMALL, "data.max_views=2", f"encoder.views={v}"])) for v in ("mean", "concat")
    )
    assert concat.flops.forward > mean.flops.forward


def test_the_command_prints_json_and_refuses_a_typo(command: Callable[..., Any]) -> None:
    words = ["r2g.budget", "+experiment=smoke"]
    good = command(*words, "--json")
    assert good.returncode == 0, good.stderr
    assert (
        json.loads(good.stdout)["budget"]["trainable"] == 192 * 192 + 192 + 2 * 192
    )  # tiny to tiny: matrix, bias, LayerNorm
    bad = command(*words, "train.stesp=3")
    assert bad.returncode != 0
    assert "train.stesp: unknown key; did you mean 'steps'?" in bad.stderr
    assert "Traceback" not in bad.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's high-water mark")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["shallow", "delta", "deep"])
def test_the_estimate_is_what_a_real_step_needs(mode: str, precision: str) -> None:
    words = [*_SMALL, f"tuning={mode}", f"train.precision={precision}"]
    memory = budget.cost(compose(words)).memory
    # freed blocks must go back to the system at once, or the mark counts what the allocator keeps
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    child = subprocess.run(
        [sys.executable, __file__, *words],
        env=env | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    held = memory.weights + memory.optimizer
    measured = int(child.stdout)
    print(f"{mode} {precision}: estimate {memory.peak - held:,} measured {measured:,}", file=sys.stderr)
    assert memory.peak - held == pytest.approx(measured, rel=0.2)


def _measure(words: list[str]) -> int:
    """Bytes by which a real training step of this config grows this process at its height."""
    import torch
    from transformers import AutoModelForCausalLM

    from r2g import model, session, train, walk
    from r2g.core.hub import model_config
    from r2g.llms import causal_lm

    config = compose(words)
    shape = model_config(config.llm.source, config.llm.shape)
    dtype = session.DTYPES[config.train.precision]
    causal_lm.load_directory = lambda *_, **__: (AutoModelForCausalLM.from_config(shape).to(dtype), None)
    causal_lm.prompt_ids = lambda *_: budget._prompt(config)
    whole = model.assemble(config, torch.device("cpu"), dtype)
    optimizer = train.optimizer_of(whole, session.tune(whole, config), config.train)
    batch = walk.batch_of(whole, config)

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            loss = whole(batch)
        loss.backward()
        del loss
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark down to what is held now
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the kernel doesn't say {field}")
    return int(found[1]) * 1024


if __name__ == "__main__":
    print(_measure(sys.argv[1:]))
