"""What a run needs to go on: trained tensors, the optimizer's state and the position; whole or absent."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from r2g.tuning import require_same, trainable

TRAINED = "trained.safetensors"


@dataclass
class Progress:
    """Where training stands; `seconds` counts training only, over all attempts."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    attempts: int = 1
    extra: dict[str, Any] = field(default_factory=dict)


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that learn, and the running statistics (buffers) of parts that do."""
    learns = trainable(model)
    parts = {name.split(".", 1)[0] for name in learns}
    fixed = dict(model.named_parameters(remove_duplicate=False))
    state = model.state_dict()
    buffers = {n: t for n, t in state.items() if n not in fixed and n.split(".", 1)[0] in parts}
    return {n: t.detach().contiguous() for n, t in {**learns, **buffers}.items()}


def save_trained(model: nn.Module, path: Path) -> None:
    """Write `trained_state` as safetensors; the list of trained names goes into the file's header."""
    write_trained({n: t.cpu().clone() for n, t in trained_state(model).items()}, trainable(model), path)


def write_trained(tensors: Mapping[str, Tensor], trained: Iterable[str], path: Path) -> None:
    """The same from tensors; `trained` names those of them that learn."""
    draft = path.with_name("." + path.name)
    save_file(dict(tensors), draft, metadata={"trained": json.dumps(sorted(trained))})
    draft.replace(path)


def load_trained(model: nn.Module, path: Path) -> None:
    """Read it back. Raises PlanError, naming the difference, unless the file's trainable set is the model's."""
    with safe_open(path, "pt") as file:
        saved = json.loads(file.metadata()["trained"])
    require_same(trainable(model), saved, str(path))
    tensors = load_file(path)
    require_same(trained_state(model), tensors, str(path))
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write `folder/step-N`, then drop older ones. A kill at any moment leaves one that `restore` finds.

    One of the same step is put aside under a hidden name until the new one is in its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / ".draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    save_trained(model, draft / TRAINED)
    state = optimizer.state_dict()["state"]
    tensors = {
        f"{i}.{key}": t.detach().cpu().clone() for i, entry in state.items() for key, t in entry.items()
    }
    save_file(tensors, draft / "optimizer.safetensors")
    (draft / "progress.json").write_text(json.dumps(asdict(progress)))
    final = folder / f"step-{progress.step:08d}"
    if final.is_dir():
        aside = folder / f".{final.name}"
        shutil.rmtree(aside, ignore_errors=True)  # the one in place is whole
        final.replace(aside)
    draft.replace(final)
    for old in _found(folder)[:-1]:
        shutil.rmtree(old)


def _found(folder: Path) -> list[Path]:
    """All checkpoints, the newest last; of one step, the one that isn't put aside."""
    both = [*folder.glob("step-*"), *folder.glob(".step-*")]
    return sorted(both, key=lambda path: (path.name.removeprefix("."), not path.name.startswith(".")))


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
    """Take up the newest checkpoint, or None when there is none."""
    found = _found(folder)
    if not found:
        return None
    load_trained(model, found[-1] / TRAINED)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_file(found[-1] / "optimizer.safetensors").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**json.loads((found[-1] / "progress.json").read_text()))
