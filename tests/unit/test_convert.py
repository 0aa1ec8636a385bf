"""Checkpoints laid out as R2GenGPT's code lays them out: to our runs, and back."""

import json
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from r2g import checkpoint, convert, session
from r2g.config.compose import compose
from r2g.config.resolve import to_tree
from r2g.model import assemble
from r2g.published import Age, Checkpoint, Spelling, Unfit, read
from r2g.record import RecordError, run_id

# peft asks a model of transformers whether it checkpoints in words that transformers is leaving.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
Make = Callable[..., Any]
EXPERIMENTS = {"shallow": "shallow_iu", "delta": "lora_iu", "deep": "deep_iu"}
# What the IU X-ray scripts leave in a checkpoint's config, paths aside.
TOLD = {
    "dataset": "iu_xray", "batch_size": 8, "freeze_vm": True, "vis_use_lora": True, "llm_use_lora": False, "vis_r": 4,
    "vis_alpha": 8, "lora_dropout": 0.1, "global_only": False, "low_resource": False, "end_sym": "</s>",
    "savedmodel_path": "./save/iu_xray/v1", "delta_file": None, "weights": [0.5, 0.5],
    "scorer_types": ["Bleu_4", "CIDEr"], "learning_rate": 1e-4, "gradient_clip_val": None, "beam_size": 3,
    "do_sample": False, "no_repeat_ngram_size": 2, "min_new_tokens": 7, "max_new_tokens": 9, "max_length": 50,
    "repetition_penalty": 2.0, "length_penalty": 2.0, "temperature": 0, "max_epochs": 3, "precision": "bf16-mixed",
}  # fmt: skip


@contextmanager
def lightning() -> Iterator[Any]:
    """A stand-in for the module whose class the published code pickles; outside, nothing of it can be imported."""
    name = "lightning.pytorch.utilities.parsing"
    with pytest.MonkeyPatch.context() as patch:
        for parent in (name.rsplit(".", i)[0] for i in range(4)):
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        for kind in ("AttributeDict", "Other"):
            body = {"__module__": name, "__setattr__": dict.__setitem__, "__getattr__": dict.__getitem__}
            setattr(sys.modules[name], kind, type(kind, (dict,), body))
        yield sys.modules[name]


def published(swin: Path, mode: str, width: int = 32) -> tuple[Any, dict[str, Tensor]]:
    """What learns in a mode, under the names of today's libraries, and the encoder that it came from."""
    from peft import LoraConfig, get_peft_model
    from transformers import SwinModel

    torch.manual_seed(len(mode))
    eyes: Any = SwinModel.from_pretrained(swin).requires_grad_(mode == "deep")
    if mode == "delta":
        names = ["q_proj", "v_proj"]
        eyes = get_peft_model(eyes, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=names))
    whole = nn.ModuleDict({"visual_encoder": eyes})
    whole["llama_proj"], whole["layer_norm"] = nn.Linear(eyes.num_features, width), nn.LayerNorm(width)
    learns = {n: p for n, p in whole.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in learns.values():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return eyes.eval(), {n: p.detach() for n, p in learns.items()}


def then(name: str) -> str:
    """transformers of 2023, written out once more."""
    for new, old in (
        ("attention.relative_position_bias.relative", "attention.self.relative"),
        ("attention.q_proj", "attention.self.query"),
        ("attention.k_proj", "attention.self.key"),
        ("attention.v_proj", "attention.self.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ):
        name = name.replace(new, old)
    return name


@pytest.fixture
def saved(tmp_path: Path, swin: Path) -> Make:
    """Writes such a file: the mode's tensors (or those given), and a config with changes."""

    def save(mode: str, tensors: dict[str, Tensor] | None = None, **config: Any) -> Path:
        path = tmp_path / "checkpoint_epoch0_step77_bleu0.161532_cider0.530213.pth"
        model = published(swin, mode)[1] if tensors is None else tensors
        with lightning() as module:
            told = module.AttributeDict({**TOLD, **config})
            torch.save({"model": model, "config": told, "epoch": 0, "step": 77}, path)
        return path

    return save


@pytest.fixture
def here(swin: Path, llama: Path) -> list[str]:
    """The overrides that a checkpoint of small models needs."""
    return [f"encoder.source={swin}", f"llm.source={llama}", "train.precision=fp32"]


def test_the_old_names_are_those_that_transformers_gives_back(swin: Path) -> None:
    """It still writes Swin's files under the names of 2023."""
    from transformers import SwinModel

    now = SwinModel.from_pretrained(swin).state_dict()
    assert {then(name) for name in now} == set(load_file(swin / "model.safetensors"))
    assert len({then(name) for name in now} & set(now)) < len(now)


@pytest.mark.parametrize("peft", Age)
@pytest.mark.parametrize("transformers", Age)
@pytest.mark.parametrize("mode", EXPERIMENTS)
def test_there_and_back_again(
    mode: str, transformers: Age, peft: Age, saved: Make, swin: Path, here: list[str], tmp_path: Path
) -> None:
    eyes, tensors = published(swin, mode)
    rename = then if transformers is Age.then else str
    cut = ".default" if peft is Age.then else "\0"
    named = {rename(name).replace(cut, ""): tensor for name, tensor in tensors.items()}
    run = convert.to_run(saved(mode, named), tmp_path / "run", here)
    record = json.loads((run / "record.json").read_text())
    assert record["config"]["name"] == record["choices"]["experiment"] == EXPERIMENTS[mode]
    assert record["training"] == {"step": 77, "epoch": 0}
    assert record["id"] == run_id(record["config"])

    back = read(convert.to_published(run, tmp_path / "back.pth", Spelling(transformers, peft)))
    assert set(back.tensors) == set(named)
    assert all(torch.equal(back.tensors[name], named[name]) for name in named)
    assert (back.config, back.epoch, back.step) == (TOLD, 0, 77)


@pytest.mark.parametrize("mode", EXPERIMENTS)
def test_a_converted_run_sees_what_the_published_encoder_sees(
    mode: str, saved: Make, swin: Path, here: list[str], tmp_path: Path
) -> None:
    from omegaconf import OmegaConf

    from r2g.config.resolve import resolve

    eyes, tensors = published(swin, mode)
    run = convert.to_run(saved(mode, {then(n): t for n, t in tensors.items()}), tmp_path / "run", here)
    config = resolve(OmegaConf.create(json.loads((run / "record.json").read_text())["config"]))
    model = assemble(config, torch.device("cpu"), torch.float32)
    session.tune(model, config)
    checkpoint.load_trained(model, run / checkpoint.TRAINED)
    model.eval()
    films = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        patches = eyes(films).last_hidden_state
        torch.testing.assert_close(model.encoder(films), patches)
        expected = nn.functional.linear(patches, tensors["llama_proj.weight"], tensors["llama_proj.bias"])
        expected = nn.functional.layer_norm(
            expected, (32,), tensors["layer_norm.weight"], tensors["layer_norm.bias"]
        )
        torch.testing.assert_close(model.projector(patches, None)[0], expected)


class _Hostile:
    """Pickled, it's a call of any function."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.given = function, given

    def __reduce__(self) -> Any:
        return self.given


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    mine = _Hostile(os.mkdir, str(trace))
    parts: dict[str, Any] = {"model": {"llama_proj.bias": torch.ones(2)}, "config": {}, "epoch": 0, "step": 0}
    paths = [tmp_path / f"{i}.pth" for i in range(9)]
    with lightning() as module:
        files = [mine, {**parts, "config": mine}, {**parts, "model": {"llama_proj.bias": mine}}]
        files += [{**parts, "config": module.AttributeDict(savedmodel_path=mine)}]
        files += [{**parts, "config": module.Other()}, {**parts, "config": types.SimpleNamespace()}]
        for path, content in zip(paths[3:], files, strict=True):
            torch.save(content, path)
    paths[0].write_bytes(pickle.dumps(mine))
    paths[1].write_bytes(b"no pickle at all")
    paths[2].write_bytes(b"")
    for path in paths:
        with pytest.raises(Unfit, match=f"{path.name} can't be read safely"):
            read(path)
    assert not trace.exists()
    pickle.loads(paths[0].read_bytes())
    assert trace.exists()  # the same bytes, read carelessly
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.pth")


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    whole = {"model": {"a": torch.ones(1)}, "config": {}, "epoch": 0, "step": 0}
    for content, message in (
        (torch.ones(2), "lacks model, config, epoch, step"),
        ({"state_dict": {}}, "lacks model, config, epoch, step"),
        ({**whole, "step": "many"}, "lacks step"),
        ({**whole, "model": {"a": 1}}, "a is no tensor"),
        ({**whole, "model": {1: torch.ones(1)}}, "1 is no tensor"),
    ):
        torch.save(content, path)
        with pytest.raises(Unfit, match=message):
            read(path)


def _without(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if part not in name}


def test_a_misfit_is_refused_by_name(saved: Make, swin: Path, here: list[str], tmp_path: Path) -> None:
    delta, deep = published(swin, "delta")[1], published(swin, "deep")[1]
    odd = {"llama_proj.weight": torch.ones(32, 5), "layer_norm.bias": torch.ones(3)}
    lost = next(n for n in delta if n.endswith("layers.0.blocks.0.attention.v_proj.lora_B.default.weight"))
    twin = lost.replace(".default", "")
    wrong = [
        (
            _without(delta, "layer_norm"),
            "no tensor for projector.tail.weight; no tensor for projector.tail.bias",
        ),
        (_without(delta, lost), "no tensor for encoder.network.*blocks.0.attention.v_proj.lora_B"),
        ({**delta, **odd}, r"llama_proj.weight is \(32, 5\), .*\(32, 32\); layer_norm.bias is \(3,\)"),
        ({**delta, "llama_model.lm_head.weight": torch.ones(1)}, "lm_head.weight belongs neither"),
        ({**delta, "visual_encoder.encoder.head": torch.ones(1)}, "visual_encoder.encoder.head is unknown"),
        ({**delta, twin: delta[lost]}, "one tensor stands there under two names"),
        (_without(deep, "bias_table"), "no tensor for .*relative_position_bias_table"),
        ({**deep, "visual_encoder.more.weight": torch.ones(1)}, "visual_encoder.more.weight is unknown"),
    ]
    for tensors, message in wrong:
        with pytest.raises(Unfit, match=message):
            convert.to_run(saved("shallow", tensors), tmp_path / "run", here)
        assert not any(tmp_path.glob("run*"))
    with pytest.raises(Unfit, match=r"lora_A.default.weight is \(4, 8\), the model's is \(16, 8\)"):
        convert.to_run(saved("delta", vis_r=16), tmp_path / "run", here)


def test_a_config_that_means_something_else_is_refused(saved: Make, here: list[str], tmp_path: Path) -> None:
    other = {"vision_model": "microsoft/swin-large-patch4-window7-224"}, {"llama_model": "/models/vicuna-7b"}
    cases: list[tuple[dict[str, Any], list[str], str]] = [
        ({"end_sym": "###"}, here, "end_sym is '###'"),
        ({"dataset": "padchest"}, here, "names no data set that is known here"),
        ({"max_length": "50 track=wandb"}, here, "max_length in its config is no number"),
        (other[0], here[1:], "vision_model microsoft/swin-large.*encoder.source=..."),
        (other[1], here[:1], "llama_model /models/vicuna-7b.*llm.source=..."),
        ({}, [*here, "projector=mlp"], "R2GenGPT has no such model: projector is MLP"),
        (
            {},
            [*here, "encoder.views=concat", "encoder.size=64"],
            "encoder.size is 64 .*; encoder.views is concat",
        ),
        ({}, [*here, "llm.prompt.before='Film: '"], "llm.prompt is"),
        ({}, [*here[1:], "encoder=dinov2_base"], "the encoder's family is dinov2 here and swin there"),
        ({}, [*here[:1], "llm=qwen2_5_0_5b"], "the llm's family is qwen2 here and llama there"),
    ]
    for config, words, message in cases:
        with pytest.raises(Unfit, match=message):
            convert.to_run(saved("shallow", **config), tmp_path / "run", words)
    named = [*here, "+experiment=shallow_mimic"]
    convert.to_run(saved("shallow", dataset="padchest"), tmp_path / "run", named)
    assert "mimic" in json.loads((tmp_path / "run" / "record.json").read_text())["name"]
    with pytest.raises(FileExistsError, match="is there already"):
        convert.to_run(saved("shallow"), tmp_path / "run", here)


def test_settings_come_from_the_checkpoint_and_overrides_win(
    saved: Make, here: list[str], tmp_path: Path
) -> None:
    file = saved("shallow", global_only=True)
    run = convert.to_run(file, tmp_path / "run", [*here, "decode.beams=1"])
    config = json.loads((run / "record.json").read_text())["config"]
    assert config["encoder"]["select"] == "pooled"
    found = {k: config["decode"][k] for k in ("beams", "sample", "min_tokens", "max_tokens")}
    assert found == {"beams": 1, "sample": False, "min_tokens": 7, "max_tokens": 9}
    assert (config["train"]["max_tokens"], config["train"]["epochs"]) == (50, 3)


def _finished(folder: Path, words: list[str], **changes: Any) -> Path:
    """A run's folder with what a run leaves for conversion; nothing was trained."""
    config = compose(words)
    model = assemble(config, torch.device("cpu"), torch.float32)
    session.tune(model, config)
    folder.mkdir()
    checkpoint.save_trained(model, folder / checkpoint.TRAINED)
    told = {"schema": 1, "status": "finished", "config": to_tree(config)}
    told |= {"training": {"step": 40, "best_step": 30}, **changes}
    (folder / "record.json").write_text(json.dumps(told))
    return folder


def test_a_run_of_ours_is_told_in_their_words(here: list[str], tmp_path: Path) -> None:
    words = ["+experiment=lora_mimic", *here, "tuning.adapters.encoder_lora.rank=4"]
    run = _finished(tmp_path / "run", words)
    back = read(convert.to_published(run, tmp_path / "ours.pth", Spelling(Age.then, Age.now)))
    assert isinstance(back, Checkpoint)
    assert (
        "visual_encoder.base_model.model.encoder.layers.0.blocks.0.attention.self.query.lora_A.default.weight"
        in (back.tensors)
    )
    expected = {"dataset": "mimic_cxr", "vis_r": 4, "vis_alpha": 16, "vis_use_lora": True, "max_length": 100}
    expected |= {"min_new_tokens": 80, "max_new_tokens": 120, "end_sym": "</s>", "freeze_vm": True}
    assert {key: back.config[key] for key in expected} == expected
    assert (back.epoch, back.step) == (4, 30)
    with pytest.raises(FileExistsError, match="is there already"):
        convert.to_published(run, tmp_path / "ours.pth", Spelling(Age.then, Age.now))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tuning=llm_lora"], "nothing like llm.network.*lora_A"),
        (["tuning=soft_prompt"], "nothing like llm.soft_prompt"),
        (["tuning=dora"], "nothing like encoder.*magnitude"),
        (["tuning=delta", "tuning.adapters.encoder_lora.targets=attention"], "nothing like .*k_proj.lora_A"),
        (["projector=mlp"], "R2GenGPT has no such model: projector is MLP"),
    ],
)
def test_what_they_have_not_is_refused(
    words: list[str], message: str, here: list[str], tmp_path: Path
) -> None:
    run = _finished(tmp_path / "run", ["+experiment=shallow_iu", *here, *words])
    with pytest.raises(Unfit, match=message):
        convert.to_published(run, tmp_path / "back.pth", Spelling(Age.then, Age.now))
    assert not (tmp_path / "back.pth").exists()


def test_only_a_finished_run_is_converted(here: list[str], tmp_path: Path) -> None:
    run = _finished(tmp_path / "run", ["+experiment=shallow_iu", *here], status="failed")
    with pytest.raises(RecordError, match="is failed, not finished"):
        convert.to_published(run, tmp_path / "back.pth", Spelling(Age.then, Age.now))


def test_the_command(
    saved: Make, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def call(*words: Any) -> None:
        monkeypatch.setattr(sys, "argv", ["convert", *map(str, words)])
        convert.main()

    run, back = tmp_path / "run", tmp_path / "back.pth"
    call(saved("delta"), *here, "--to", run)
    call(run, "--to", back, "--peft", "then", "--transformers", "now")
    assert capsys.readouterr().out == f"written: {run}\nwritten: {back}\n"
    assert any(name.endswith("attention.q_proj.lora_A.weight") for name in read(back).tensors)
    for words, message in (
        ((run, "seed=1", "--to", tmp_path / "b.pth"), "seed=1 can't change them"),
        ((back, "trian.steps=1", "--to", tmp_path / "r"), "did you mean 'train'"),
        ((back, "+experiment=none", "--to", tmp_path / "r"), "experiment/none"),
        ((tmp_path / "no.pth", "--to", tmp_path / "r"), "FileNotFoundError"),
    ):
        with pytest.raises(SystemExit, match=message):
            call(*words)
