"""python -m r2g.convert SOURCE --to TARGET [overrides]: R2GenGPT's checkpoints to ours, and back.

SOURCE is one of its .pth files and TARGET a new run's folder, which r2g.evaluate reads; or SOURCE is a finished run's
folder and TARGET a .pth file. Overrides are those of r2g.run, such as encoder.source=DIR and llm.source=DIR; without
+experiment=NAME the paper's own is taken. What doesn't fit is refused by name. No model's weights are read.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2g import record
from r2g.config.compose import compose, compose_with_choices
from r2g.config.resolve import ConfigError, resolve, to_tree
from r2g.published import Age, Checkpoint, Spelling, Unfit, mode_of, ours, read, theirs, write

if TYPE_CHECKING:
    from r2g.config.schema import RunConfig
    from r2g.model import ReportGenerator

_EXPERIMENTS = {"shallow": "shallow", "delta": "lora", "deep": "deep"}
_DATA = {"mimic_cxr": "mimic", "iu_xray": "iu"}
_ADAPTER = "encoder_lora"
_MODELS = "+experiment=shallow_iu"
_END = "</s>"
# The published code's hyper-parameters that decide what a checkpoint computes, and ours.
_SETTINGS = {
    "max_length": "train.max_tokens",
    "max_epochs": "train.epochs",
    "learning_rate": "train.learning_rate",
    "beam_size": "decode.beams",
    "do_sample": "decode.sample",
    "min_new_tokens": "decode.min_tokens",
    "max_new_tokens": "decode.max_tokens",
    "repetition_penalty": "decode.repetition_penalty",
    "length_penalty": "decode.length_penalty",
}
_OF_LORA = {
    "vis_r": f"tuning.adapters.{_ADAPTER}.rank",
    "vis_alpha": f"tuning.adapters.{_ADAPTER}.alpha",
    "lora_dropout": f"tuning.adapters.{_ADAPTER}.dropout",
}


def main() -> None:
    """The command line."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m r2g.convert", description=__doc__, formatter_class=about)
    parser.add_argument("source", type=Path, help="a .pth file of R2GenGPT, or a finished run's folder")
    parser.add_argument("overrides", nargs="*", help="key=value, as for r2g.run (not for a run's folder)")
    parser.add_argument(
        "--to", type=Path, required=True, help="the run's folder, or the .pth file, to be made"
    )
    for library, default, names in (("transformers", "then", "query"), ("peft", "now", "lora_A.weight")):
        told = f"whose names a .pth file gets: {library}'s then ({names}) or now (default: {default})"
        parser.add_argument(f"--{library}", choices=[a.value for a in Age], default=default, help=told)
    chosen = parser.parse_intermixed_args()
    from hydra.errors import HydraException

    try:
        if chosen.source.is_dir():
            _require_no(chosen.overrides)
            spelling = Spelling(Age(chosen.transformers), Age(chosen.peft))
            made = to_published(chosen.source, chosen.to, spelling)
        else:
            made = to_run(chosen.source, chosen.to, chosen.overrides)
    except (ConfigError, HydraException, record.RecordError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"written: {made}")  # noqa: T201 - what a command says to its user


def _require_no(overrides: list[str]) -> None:
    if overrides:
        raise ValueError(f"a finished run has its settings: {overrides[0]} can't change them")


def to_run(file: Path, folder: Path, overrides: list[str]) -> Path:
    """Make a finished run's folder from a .pth file: record.json and trained.safetensors.

    Raises Unfit with the names that differ, ConfigError for a wrong override, FileExistsError.
    """
    from r2g import checkpoint, session, tuning

    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    saved = read(file)
    named = any(word.startswith("+experiment=") for word in overrides)
    words = ([] if named else [_experiment(saved)]) + _settings(saved) + overrides
    _require_same_models(saved, words)
    config, choices = compose_with_choices(words)
    whole = _shapes(config)
    tensors = _fitting(saved, whole, _label(config))
    tree = to_tree(config)
    run = record.RunFolder(folder)
    run.partial.mkdir(parents=True, exist_ok=True)
    checkpoint.write_trained(tensors, tuning.trainable(whole), run.partial / checkpoint.TRAINED)
    told = {
        "schema": record.SCHEMA,
        "id": record.run_id(tree),
        "arm": record.run_id(tree, seed=False),
        "name": config.name,
        "choices": choices,
        "config": tree,
        "data": {"fingerprint": None, "shareable": config.data.shareable},
        **record.environment(),
        "status": "finished",
        "budget": session.budget_of(whole, config),
        "training": {"step": saved.step, "epoch": saved.epoch},
        "convergence": {},
        "scores": {},
        "absent": {},
        "controls": {},
        "published": {
            "file": file.name,
            "sha256": _sha256(file),
            "config": {k: _plain(v) for k, v in saved.config.items()},
        },
    }
    record.write_json(run.partial / "record.json", told)
    run.finish()
    return folder


def to_published(run: Path, file: Path, spelling: Spelling) -> Path:
    """Write a finished run's trained parameters as R2GenGPT's code does. Raises Unfit for what it hasn't."""
    from omegaconf import OmegaConf
    from safetensors.torch import load_file

    from r2g import checkpoint, tuning

    done = record.read(run)
    if done["status"] != "finished":
        raise record.RecordError(f"{run} is {done['status']}, not finished")
    if file.exists():
        raise FileExistsError(f"{file} is there already")
    config = resolve(OmegaConf.create(done["config"]))
    whole = _shapes(config)
    tensors = load_file(run / checkpoint.TRAINED)
    tuning.require_same(tuning.trainable(whole), tensors, str(run))
    label = _label(config)
    named = {theirs(name, label, spelling): tensor for name, tensor in tensors.items()}
    told = done.get("published", {}).get("config") or _hyperparameters(config, mode_of(named))
    training = done["training"]
    epoch = training.get("epoch", max(0, (config.train.epochs or 1) - 1))
    write(file, Checkpoint(named, told, epoch, training.get("best_step") or training["step"]))
    return file


def _experiment(saved: Checkpoint) -> str:
    data = _DATA.get(str(saved.config.get("dataset")))
    if data is None:
        raise Unfit(
            f"its config names no data set that is known here ({', '.join(_DATA)}): add +experiment=NAME"
        )
    return f"+experiment={_EXPERIMENTS[mode_of(saved.tensors)]}_{data}"


def _settings(saved: Checkpoint) -> list[str]:
    """The overrides that a checkpoint's own hyper-parameters ask for."""
    told = saved.config
    if told.get("end_sym") not in (None, _END):
        raise Unfit(f"end_sym is {told['end_sym']!r}: here a report always ends with {_END}")
    known = _SETTINGS | (_OF_LORA if mode_of(saved.tensors) == "delta" else {})
    given = {name: told[name] for name in known if told.get(name) is not None}
    odd = [name for name, value in given.items() if not isinstance(value, int | float)]
    if odd:
        raise Unfit(f"{odd[0]} in its config is no number: {given[odd[0]]!r}")
    values = [f"{known[name]}={value}" for name, value in given.items()]
    return [*values, *(["encoder.select=pooled"] if told.get("global_only") else [])]


def _require_same_models(saved: Checkpoint, words: Sequence[str]) -> None:
    """The checkpoint belongs to the models that its config names; other ones are taken only if the user says so."""
    paper = _paper()
    for group, name, here in (
        ("encoder", "vision_model", paper.encoder.source),
        ("llm", "llama_model", paper.llm.source),
    ):
        named = str(saved.config.get(name, here)).rstrip("/")
        asked = any(word.lstrip("+").startswith((f"{group}=", f"{group}.source=")) for word in words)
        if not asked and named.rpartition("/")[2] != here.rpartition("/")[2]:
            raise Unfit(
                f"it was trained with {name} {named}, not {here}: say where that is ({group}.source=...)"
            )


def _shapes(config: "RunConfig") -> "ReportGenerator":
    """The model without weights, its tuning mode applied. Raises Unfit unless it is built as R2GenGPT is."""
    import torch

    from r2g import model, session

    whole = model.assemble(config, torch.device("meta"), torch.float32)
    _require_published(config, whole)
    session.tune(whole, config)
    return whole


def _require_published(config: "RunConfig", whole: "ReportGenerator") -> None:
    """The same parts, put together in the same way. Raises Unfit with all that differs."""
    paper = _paper()
    families = [_family(getattr(part, "network", None)) for part in (whole.encoder, whole.llm)]
    problems = [
        f"{what} is {found} here and {wanted} there"
        for what, found, wanted in (
            ("the encoder's family", families[0], "swin"),
            ("the llm's family", families[1], "llama"),
            ("encoder.size", getattr(config.encoder, "size", None), paper.encoder.size),
            ("encoder.views", config.encoder.views.value, paper.encoder.views.value),
            ("projector", config.projector, paper.projector),
            ("llm.prompt", config.llm.prompt, paper.llm.prompt),
        )
        if found != wanted
    ]
    if problems:
        raise Unfit(f"R2GenGPT has no such model: {'; '.join(problems)}")


@cache
def _paper() -> "RunConfig":
    """Models, projector and prompt are the same in all six experiments."""
    return compose([_MODELS])


def _family(network: Any) -> str | None:
    return getattr(getattr(network, "config", None), "model_type", None)


def _label(config: "RunConfig") -> str:
    return next(iter(config.tuning.adapters), _ADAPTER)


def _fitting(saved: Checkpoint, whole: "ReportGenerator", label: str) -> dict[str, Any]:
    """The checkpoint's tensors under our names. Raises Unfit, listing what is too much, missing or misshapen."""
    from r2g import checkpoint

    wanted = {name: tuple(t.shape) for name, t in checkpoint.trained_state(whole).items()}
    known = {name: ours(name, label) for name in saved.tensors}
    problems = [f"{name} is unknown" for name, here in known.items() if here not in wanted]
    problems += [f"no tensor for {name}" for name in wanted if name not in known.values()]
    for name, here in known.items():
        shape = tuple(saved.tensors[name].shape)
        if here in wanted and shape != wanted[here]:
            problems.append(f"{name} is {shape}, the model's is {wanted[here]}")
    if len(set(known.values())) < len(known):
        problems.append("one tensor stands there under two names")
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise Unfit(f"the checkpoint doesn't fit the model: {'; '.join(problems[:5])}{more}")
    return {here: saved.tensors[name].float().contiguous().clone() for name, here in known.items()}


def _hyperparameters(config: "RunConfig", mode: str) -> dict[str, Any]:
    """Our settings under the published code's names."""
    tree = to_tree(config)
    known = _SETTINGS | (_OF_LORA if mode == "delta" else {})
    return {
        "dataset": config.data.kind,
        "vision_model": config.encoder.source,
        "llama_model": config.llm.source,
        "freeze_vm": mode != "deep",
        "vis_use_lora": mode == "delta",
        "llm_use_lora": False,
        "global_only": config.encoder.select.value == "pooled",
        "end_sym": _END,
        "batch_size": config.train.micro_batch,
        **{name: _value(tree, key) for name, key in known.items()},
    }


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | list | None) else str(value)


if __name__ == "__main__":
    main()
