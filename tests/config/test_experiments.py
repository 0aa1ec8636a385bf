"""The six runs of the paper, value by value, and their siblings of today."""

from collections.abc import Callable
from typing import Any

import pytest

from r2g.config.compose import compose
from r2g.config.resolve import to_tree

MODES = {"shallow": "shallow", "lora": "delta", "deep": "deep"}
PROMPT = {
    "style": "plain",
    "before": "Human: <Img>",
    "after": "</Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. \nAssistant:",
}
# What the published scripts say, and what their code does where it says nothing.
PAPER: dict[str, Any] = {
    "seed": 42,
    "encoder.source": "microsoft/swin-base-patch4-window7-224",
    "encoder.weights": "pretrained",
    "encoder.views": "mean",
    "encoder.select": "patches",
    "encoder.size": None,
    "projector": {"kind": "linear", "pool": None, "norm": True},
    "llm.source": "meta-llama/Llama-2-7b-chat-hf",
    "llm.load": "16bit",
    "llm.prompt": PROMPT,
    "tuning.frozen_mode": "train",
    "train.steps": None,
    "train.learning_rate": 1e-4,
    "train.weight_decay": 0.01,
    "train.schedule": "cosine",
    "train.schedule_unit": "epoch",
    "train.warmup_steps": 0,
    "train.floor": 1e-6,
    "train.clip_norm": None,
    "train.precision": "bf16",
    "train.weighting": "batch",
    "train.group_by_length": False,
    "train.shuffle": True,
    "train.drop_last": True,
    "train.select": [{"score": "bleu_4", "weight": 0.5}, {"score": "cider", "weight": 0.5}],
    "train.patience": None,
    "decode.beams": 3,
    "decode.sample": False,
    "decode.repetition_penalty": 2.0,
    "decode.length_penalty": 2.0,
    "decode.no_repeat_ngram": 0,
}
BY_DATA: dict[str, dict[str, Any]] = {
    "mimic": {
        "data.kind": "mimic_cxr",
        "data.cleaner": "mimic_r2gengpt",
        "data.section": "both",
        "data.max_views": 1,
        "train.epochs": 5,
        "train.max_tokens": 100,
        "train.evals": 10,
        "train.eval_studies": 1065,
        "decode.min_tokens": 80,
        "decode.max_tokens": 120,
    },
    "iu": {
        "data.kind": "iu_xray",
        "data.cleaner": "iu",
        "data.section": "findings",
        "data.max_views": 2,
        "train.epochs": 15,
        "train.max_tokens": 60,
        "train.evals": 15,
        "train.eval_studies": None,
        "decode.min_tokens": 40,
        "decode.max_tokens": 100,
    },
}
# GPUs x studies on each.
BATCHES = {"mimic": {"shallow": (4, 8), "lora": (4, 8), "deep": (4, 6)}, "iu": dict.fromkeys(MODES, (2, 8))}
LORA = {"kind": "lora", "part": "encoder", "rank": 16, "alpha": 16, "dropout": 0.1, "dora": False}
# Where ours differs: the rate's unit, the clip, the weights of tokens, the parts that rest.
OURS = {
    "name",
    "tuning.frozen_mode",
    "train.schedule_unit",
    "train.clip_norm",
    "train.weighting",
}
RUNS = [(mode, data) for data in BY_DATA for mode in MODES]


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    found = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{prefix}.{key}" if prefix else key)
    return found


@pytest.mark.parametrize(("mode", "data"), RUNS)
def test_an_experiment_is_the_papers(mode: str, data: str) -> None:
    tree = to_tree(compose([f"+experiment={mode}_{data}"]))
    expected = {**PAPER, **BY_DATA[data]}
    assert {key: _at(tree, key) for key in expected} == expected
    gpus, each = BATCHES[data][mode]
    assert (tree["train"]["batch_size"], tree["train"]["micro_batch"]) == (gpus * each, each)
    adapters = tree["tuning"]["adapters"]
    assert set(adapters) == ({"encoder_lora"} if mode == "lora" else set())
    for adapter in adapters.values():
        assert {**adapter, "targets": None} == {**LORA, "targets": None}
        assert adapter["targets"] == "attention_qv"
    assert set(tree["score"]["metrics"]) == {"bleu", "rouge_l", "meteor", "cider"}


@pytest.mark.parametrize(("mode", "data"), RUNS)
def test_a_modern_sibling_differs_in_the_named_keys_only(
    mode: str, data: str, configured: Callable[..., Any]
) -> None:
    trees = [to_tree(configured(f"+experiment={mode}_{data}{end}")) for end in ("", "_modern")]
    protocols = [tree["score"].pop("protocol") for tree in trees]
    paper, ours = map(_leaves, trees)
    assert set(paper) == set(ours)
    assert {key for key in paper if paper[key] != ours[key]} == OURS
    assert [protocol["name"] for protocol in protocols] == [f"r2gengpt_{data}", "full"]
    assert (ours["tuning.frozen_mode"], ours["train.schedule_unit"]) == ("eval", "step")
    assert (ours["train.clip_norm"], ours["train.weighting"]) == (1.0, "token")
    assert ours["train.precision"] == "bf16"
