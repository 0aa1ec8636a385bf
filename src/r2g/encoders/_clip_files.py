"""Where an open_clip model's shape and weights are: the library itself, a local directory, or the hub."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from r2g.core.hub import check_shape
from r2g.core.registry import nearest
from r2g.encoders._preprocessor import require

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

_CONFIG = "open_clip_config.json"
_FIELDS = ("embed_dim", "quick_gelu", "vision_cfg")


def built_in(source: str) -> bool:
    """Is it one of the library's own models?"""
    import open_clip

    return source in open_clip.list_models()


def stated(folder: str) -> dict[str, Any]:
    """The config file of a local directory; empty where there is none."""
    file = Path(folder) / _CONFIG
    return json.loads(file.read_text()) if file.is_file() else {}


def tower_shape(source: str, shape: dict[str, Any]) -> dict[str, Any]:
    """embed_dim, quick_gelu and vision_cfg: a directory's own, the library's, or for a hub id `shape`.

    Raises ValueError for a source that is none of these and for fields that open_clip hasn't.
    """
    import open_clip

    found = shape
    if stated(source):
        found = stated(source)["model_cfg"]
    elif built_in(source):
        found = open_clip.get_model_config(source)
        check_shape(found, shape, source)
    elif not shape.keys() >= {"embed_dim", "vision_cfg"}:
        hint = nearest(source, open_clip.list_models())
        raise ValueError(
            f"'{source}' is neither one of open_clip's models{hint} nor a "
            f"directory with {_CONFIG}; for a hub id, shape must hold embed_dim and vision_cfg"
        )
    else:
        _require_known(shape)
    return {name: found[name] for name in _FIELDS if name in found}


def weights_file(source: str, tag: str | None, shape: dict[str, Any], statistics: Statistics) -> Path:
    """The checkpoint, downloaded if need be; `statistics` are the mean and std that the films will have.

    Raises OSError when it can't be had, ValueError when it was made for another shape or other statistics.
    """
    import open_clip

    if Path(source).is_dir():
        return _in_folder(Path(source))
    if built_in(source):
        known = open_clip.get_pretrained_cfg(source, tag)
        _require_same(known, source, statistics)
        return Path(open_clip.download_pretrained(known))
    return _from_hub(source, shape, statistics)


def _in_folder(folder: Path) -> Path:
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    there = [folder / name for name in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME) if (folder / name).is_file()]
    if not there:
        raise FileNotFoundError(f"{folder} holds neither {HF_SAFE_WEIGHTS_NAME} nor {HF_WEIGHTS_NAME}")
    return there[0]


def _from_hub(source: str, shape: dict[str, Any], statistics: Statistics) -> Path:
    from huggingface_hub import hf_hub_download
    from open_clip.pretrained import download_pretrained_from_hf

    config = json.loads(Path(hf_hub_download(source, _CONFIG)).read_text())
    check_shape(config["model_cfg"], shape, source)
    _require_same(config.get("preprocess_cfg", {}), source, statistics)
    return Path(download_pretrained_from_hf(source))


def _require_same(known: dict[str, Any], source: str, statistics: Statistics) -> None:
    require({f"image_{name}": known.get(name) for name in ("mean", "std")}, source, *statistics)


def _require_known(shape: dict[str, Any]) -> None:
    from open_clip import CLIPVisionCfg

    known = {"shape": list(_FIELDS), "shape.vision_cfg": [f.name for f in fields(CLIPVisionCfg)]}
    for where, names in (("shape", shape), ("shape.vision_cfg", shape["vision_cfg"])):
        for name in sorted(set(names) - set(known[where])):
            raise ValueError(f"open_clip has no {where}.{name}{nearest(name, known[where])}")
