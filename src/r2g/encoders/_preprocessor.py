"""What a transformers model's preprocessor_config.json says of the films that it was trained on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = "preprocessor_config.json"


def stated(folder: str) -> dict[str, Any]:
    """The file of a local directory; empty where there is none."""
    file = Path(folder) / FILE
    return json.loads(file.read_text()) if file.is_file() else {}


def fetched(source: str) -> dict[str, Any]:
    """The file of a hub id; empty where it has none. Raises OSError when the hub can't be reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return json.loads(Path(hf_hub_download(source, FILE)).read_text())
    except RemoteEntryNotFoundError:
        return {}


def side(said: dict[str, Any]) -> int | None:
    """The side in pixels of the films that it makes, or None where it doesn't say."""
    size = said.get("crop_size") if said.get("do_center_crop") else said.get("size")
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    return size


def require(said: dict[str, Any], source: str, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError unless mean and std are what a hub model was trained with."""
    for name, ours in (("mean", mean), ("std", std)):
        theirs = said.get(f"image_{name}") or ours
        if len(theirs) != len(ours) or max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > 1e-3:
            raise ValueError(
                f"{source} was trained with {name} {theirs}, not {list(ours)}: set encoder.{name}"
            )
