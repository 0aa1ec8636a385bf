"""R2GenGPT's checkpoints: how the published code names tensors, then and now, and how its files are laid out.

The libraries under that code have renamed modules since, so one tensor has several published names:
`transformers` tells whether Swin's modules are called as before 5.9, `peft` whether LoRA's are as before 0.3.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_CONFIG_CLASS = "lightning.pytorch.utilities.parsing.AttributeDict"
_PARTS = ("model", "config", "epoch", "step")
_LORA = "visual_encoder.base_model.model."
_ADAPTED = (".attention.q_proj", ".attention.v_proj")
_PROJECTOR = {"llama_proj.": "projector.body.", "layer_norm.": "projector.tail."}
# A block's modules as transformers before 5.9 called them, and as it calls them since.
_SWIN = {
    ".attention.self.query.": ".attention.q_proj.",
    ".attention.self.key.": ".attention.k_proj.",
    ".attention.self.value.": ".attention.v_proj.",
    ".attention.self.relative_position_bias_table": ".attention.relative_position_bias.relative_position_bias_table",
    ".attention.output.dense.": ".attention.o_proj.",
    ".intermediate.dense.": ".mlp.fc1.",
    ".output.dense.": ".mlp.fc2.",
}


class Age(Enum):
    """A library's names before it changed them, or since."""

    then = "then"
    now = "now"


@dataclass(frozen=True)
class Spelling:
    """Whose names a file uses."""

    transformers: Age
    peft: Age


class Unfit(ValueError):
    """A file that isn't a checkpoint of R2GenGPT, or that holds what its three modes don't train."""


@dataclass(frozen=True)
class Checkpoint:
    """A file of R2GenGPT: trained tensors by published name, hyper-parameters, and when it was written."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    epoch: int
    step: int


def read(path: Path) -> Checkpoint:
    """A .pth file. Nothing in it is run: tensors, plain values and the pickled class of its config, read as a dict.

    Raises Unfit for a file of another layout, and for one that wants any other class.
    """
    try:
        with torch.serialization.safe_globals([(dict, _CONFIG_CLASS)]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a broken or hostile pickle ends in whatever error it likes
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unfit(f"{path} can't be read safely: {told}") from error
    kinds = dict(zip(_PARTS, (dict, dict, int, int), strict=True))
    wrong = [
        n for n, kind in kinds.items() if not isinstance(found, dict) or not isinstance(found.get(n), kind)
    ]
    if wrong:
        raise Unfit(f"{path} isn't laid out as R2GenGPT's checkpoints: it lacks {', '.join(wrong)}")
    others = [
        name
        for name, value in found["model"].items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if others:
        raise Unfit(f"{path}: {others[0]} is no tensor")
    return Checkpoint(*(found[part] for part in _PARTS))


def write(path: Path, saved: Checkpoint) -> None:
    """The same layout, whole or not at all; the config is a plain dict, so that it loads without lightning, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name("." + path.name)
    torch.save(dict(zip(_PARTS, (saved.tensors, saved.config, saved.epoch, saved.step), strict=True)), draft)
    draft.replace(path)


def ours(name: str, label: str) -> str:
    """Our name for a tensor, from any of its published ones; `label` is that of our LoRA adapter. Raises Unfit."""
    for theirs, here in _PROJECTOR.items():
        if name.startswith(theirs):
            return here + name.removeprefix(theirs)
    if not name.startswith("visual_encoder."):
        raise Unfit(f"{name} belongs neither to the projector nor to the encoder")
    inner = name.removeprefix(_LORA) if name.startswith(_LORA) else name.removeprefix("visual_encoder.")
    inner = _renamed(inner, _SWIN)
    for matrix in ("A", "B"):
        for old in (f".lora_{matrix}.weight", f".lora_{matrix}.default.weight"):
            inner = (
                inner.removesuffix(old) + f".lora_{matrix}.{label}.weight" if inner.endswith(old) else inner
            )
    return f"encoder.network.{inner}"


def theirs(name: str, label: str, spelling: Spelling) -> str:
    """The published name of one of our tensors. Raises Unfit for what R2GenGPT hasn't."""
    for published, here in _PROJECTOR.items():
        if name.startswith(here):
            return published + name.removeprefix(here)
    if not name.startswith("encoder.network."):
        raise Unfit(f"R2GenGPT has nothing like {name}")
    inner = name.removeprefix("encoder.network.")
    if ".lora_" not in inner:
        return f"visual_encoder.{_spelt(inner, spelling)}"
    for matrix in (".lora_A", ".lora_B"):
        module = inner.removesuffix(f"{matrix}.{label}.weight")
        if module != inner and module.endswith(_ADAPTED):
            end = ".weight" if spelling.peft is Age.then else ".default.weight"
            return _LORA + _spelt(module + matrix, spelling) + end
    raise Unfit(f"R2GenGPT has nothing like {name}")


def _spelt(name: str, spelling: Spelling) -> str:
    """A name inside Swin as it is now, or as it was."""
    return (
        name if spelling.transformers is Age.now else _renamed(name, {new: old for old, new in _SWIN.items()})
    )


def _renamed(name: str, table: Mapping[str, str]) -> str:
    """The first entry that occurs decides: one name holds one of them."""
    found = next((old for old in table if old in name), None)
    return name if found is None else name.replace(found, table[found])


def mode_of(names: Iterable[str]) -> str:
    """shallow, delta or deep: what R2GenGPT trained, read off the published names."""
    encoder = [name for name in names if name.startswith("visual_encoder.")]
    if not encoder:
        return "shallow"
    return "delta" if any(".lora_" in name for name in encoder) else "deep"
