"""What the metrics with models share: weights that may not be there, and reports through an encoder of text."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from r2g.core.hub import fetching

LONGEST = 512
"""Tokens of a report that the BERTs behind these metrics can read."""


class WeightsMissing(RuntimeError):
    """A metric's weights can't be had; the message says what to get and where to put it."""


def from_source(load: Callable[[str], Any], source: str | None, remedy: str) -> Any:
    """Load from a directory or a hub id. Raises WeightsMissing, ending with `remedy`."""
    if source is None:
        raise WeightsMissing(f"no weights given; {remedy}")
    try:
        with fetching(source):
            return load(source)
    except (OSError, ValueError) as error:
        raise WeightsMissing(f"{str(error).splitlines()[0]}; {remedy}") from error


def file_from(source: str, name: str) -> Path:
    """A file by its path, in a directory, or from a hub id. Raises OSError when it can't be had."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} holds no {name}")
        return path / name
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(source, name))
    except HFValidationError as error:
        raise FileNotFoundError(f"there is neither a file nor a folder {source}") from error


def device() -> Any:
    """The first accelerator, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def encoded(tokenizer: Any, texts: Sequence[str], batch_size: int) -> Iterator[tuple[list[int], Any]]:
    """Batches of padded token ids on the device with the places of their texts, long texts first and cut."""
    rows = tokenizer(list(texts), truncation=True, max_length=LONGEST)["input_ids"]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        padded = tokenizer.pad({"input_ids": [rows[i] for i in places]}, return_tensors="pt")
        yield places, padded.to(device())
