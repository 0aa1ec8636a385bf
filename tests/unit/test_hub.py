"""Shapes of models: a directory's own config wins, a hub id's is its YAML's; totals as published."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
import yaml
from transformers import AutoConfig, LlamaConfig

from r2g.adapters.base import Part
from r2g.adapters.lora import Lora
from r2g.config.paths import config_dir
from r2g.config.resolve import _slot
from r2g.core.causal import empty
from r2g.core.hub import check_shape, fetching, model_config
from r2g.core.slots import ENCODERS
from r2g.tuning import names_of_role

SHAPE = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "tie_word_embeddings": True}
LLMS = {
    "llama2_7b_chat": 6_738_415_616,
    "mistral_7b": 7_248_023_552,
    "phi3_5_mini": 3_821_079_552,
    "qwen2_5_0_5b": 494_032_768,
    "qwen3_4b": 4_022_468_096,
    "smollm2_135m_hub": 134_515_008,
    "vicuna_7b": 6_738_415_616,
}
VISION = {  # parameters, patches, width
    "clip_vit_l_336": (303_507_456, 576, 1024),
    "dinov2_base": (86_580_480, 256, 768),
    "rad_dino": (86_580_480, 1369, 768),
    "siglip_so400m": (428_225_600, 729, 1152),
    "swin_base": (86_743_224, 49, 1024),
}


def _tree(group: str, name: str) -> dict:
    return yaml.safe_load(Path(config_dir(), group, f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", LLMS)
def test_totals_of_llms(name: str) -> None:
    tree = _tree("llm", name)
    model = empty(model_config(tree["source"], tree["shape"]))
    assert sum(p.numel() for p in model.parameters()) == LLMS[name]


def test_no_hub_llm_is_left_out() -> None:
    files = Path(config_dir(), "llm").glob("*.yaml")
    trees = {f.stem: yaml.safe_load(f.read_text()) for f in files}
    assert set(LLMS) == {n for n, t in trees.items() if t["kind"] == "causal_lm" and t["source"] != "???"}


@pytest.mark.parametrize("name", VISION)
def test_totals_of_encoders(name: str) -> None:
    problems: list[str] = []
    settings = _slot(ENCODERS, _tree("encoder", name), "encoder", problems)
    assert not problems
    model = settings.build(torch.device("meta"))
    assert (sum(p.numel() for p in model.parameters()), model.patches, model.width) == VISION[name]


def test_a_directory_wins_over_the_shape(tmp_path: Path) -> None:
    LlamaConfig(hidden_size=32, num_attention_heads=2).save_pretrained(tmp_path)
    assert model_config(str(tmp_path), SHAPE).hidden_size == 32


def test_a_hub_id_is_known_by_its_shape_without_the_hub() -> None:
    config = model_config("owner/name", SHAPE)
    assert (config.model_type, config.hidden_size, config.tie_word_embeddings) == ("llama", 64, True)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"model_type": "llama", "hiden_size": 64}, "did you mean 'hidden_size'"),
        ({"model_type": "lama", "hidden_size": 64}, "did you mean 'llama'"),
        ({"model_type": "llama", "hidden_size": "wide"}, "hidden_size"),
        ({"model_type": "llama"}, "names no sizes"),
        ({}, "needs a model_type"),
        (None, "needs a model_type"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(shape: dict | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_config("owner/name", shape)


@pytest.mark.parametrize("source", ["/no/such/place", "./here", "~/models", "a/b/c", ""])
def test_a_directory_that_is_not_there_is_no_hub_id(source: str) -> None:
    with pytest.raises(ValueError, match="no directory"):
        model_config(source, SHAPE)


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        model_config(str(tmp_path), SHAPE)


def test_every_field_that_differs_is_named() -> None:
    config = LlamaConfig(hidden_size=32, num_attention_heads=2, tie_word_embeddings=True)
    with pytest.raises(
        ValueError, match="hidden_size is 32 there and 64 here.*num_attention_heads is 2"
    ) as caught:
        check_shape(config, SHAPE, "owner/name")
    assert "tie_word" not in str(caught.value)
    check_shape(config, {"hidden_size": 32, "head_dim": 16}, "owner/name")
    with pytest.raises(ValueError, match="sparkles is absent"):
        check_shape(config, {"sparkles": 1}, "owner/name")


def test_shapes_within_shapes_are_compared_field_by_field() -> None:
    config = SimpleNamespace(depths=(2, 2), inner={"a": 1, "b": [1, 2]})
    check_shape(config, {"depths": [2, 2], "inner": {"b": [1, 2]}}, "x")
    with pytest.raises(ValueError, match=r"inner\.b is \[1, 2\] there"):
        check_shape(config, {"inner": {"b": [1, 3]}}, "x")


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="give `source` a directory.*HF_HUB_OFFLINE"), fetching("owner/name"):
        AutoConfig.from_pretrained("owner/name")


def test_a_directorys_own_failure_is_not_blamed_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), fetching(str(tmp_path)):
        raise OSError("disk")


def test_lora_on_swin_b_costs_what_was_published() -> None:
    problems: list[str] = []
    settings = _slot(ENCODERS, _tree("encoder", "swin_base"), "encoder", problems)
    model = settings.build(torch.device("meta"))
    targets = names_of_role(model, settings.roles["attention_qv"])
    assert len(targets) == 2 * 24
    Lora(Part.encoder, 16, 16.0, 0.1, False, "attention_qv").attach("x", model, targets)
    assert sum(p.numel() for n, p in model.named_parameters() if "lora_" in n) == 770_048
