"""The stages of a run, from settings to record: the method section."""

import logging
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import set_seed
from transformers.utils.logging import disable_progress_bar

from r2g import assess, data, frozen, model, protocol, record, train, tuning
from r2g.config import setting
from r2g.config.schema import Device, Precision, RunConfig
from r2g.core import filing, labels, ngrams
from r2g.core.hardware import described
from r2g.core.registry import nearest
from r2g.core.speed import slowdown
from r2g.core.stopping import Interrupted
from r2g.core.types import SPLITS, Cleaner, Prediction, Section
from r2g.datasets._fingerprint import image_hashes
from r2g.halving import Halved
from r2g.llms.base import LanguageModel
from r2g.plan import plan_of
from r2g.trackers.base import RunIdentity

_LOG = logging.getLogger(__name__)
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}
_EMULATED = 3.0  # a native bf16 product is never that much slower than fp32
_MIXED = {Precision.fp32: "no", Precision.bf16: "bf16", Precision.fp16: "fp16"}


class RunFailed(RuntimeError):
    """A run that ended early; its record says why."""


@dataclass(frozen=True)
class Setup:
    """What stands before the first step."""

    accelerator: Accelerator
    model: model.ReportGenerator
    groups: tuple[tuning.ParamGroup, ...]
    loaders: data.Loaders
    budget: dict[str, Any]
    reuse: frozen.Reuse


def make_accelerator(config: RunConfig) -> Accelerator:
    """The processes and devices of this launch. Raises RunFailed when fewer came than `train.processes` asks for."""
    settings = config.train
    cpu = settings.device is Device.cpu
    if settings.device is Device.cuda and not torch.cuda.is_available():
        raise RunFailed("train.device is cuda, but no CUDA device is there")
    # accelerate keeps the first precision and device of a process; another gang's may be others
    alone = PartialState._shared_state.get("num_processes", 1) == 1
    AcceleratorState._reset_state(reset_partial_state=alone)
    try:
        accelerator = Accelerator(cpu=cpu, mixed_precision=_MIXED[settings.precision])
    except ValueError as error:
        raise RunFailed(f"train.precision={settings.precision.value} can't be had here: {error}") from error
    if settings.processes not in (None, accelerator.num_processes):
        raise RunFailed(
            f"train.processes asks for {settings.processes} processes and {accelerator.num_processes} came; on the "
            "CPU use torchrun --nproc_per_node N, since accelerate launch --cpu starts one"
        )
    return accelerator


def require_selectable(config: RunConfig, raw: Any) -> None:
    """Before anything is built: the scores of `train.select` can be had for this data, on this machine.

    Raises ValueError with the reason: labels that nobody knows, a Java that isn't there.
    """
    wanted = assess.metrics_for([term.score for term in config.train.select], config.score.metrics)
    rows = raw["val"][:]
    columns = zip(rows["id"], rows["report"], rows["labels"], strict=True)
    ideal = [
        Prediction(i, text, text, None if labels is None else tuple(labels)) for i, text, labels in columns
    ]
    # Any rules will do here: whether a metric can be had doesn't depend on them.
    absent = assess.score(
        ideal, wanted, protocol.Judge(protocol.read(protocol.BASE)[0], protocol.Material())
    ).absent
    if absent:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in absent.items())
        raise ValueError(
            f"train.select asks for what can't be had here ({reasons}); select by another score, such as "
            "train.select=[{score: loss, weight: -1.0}] or [{score: bleu_4, weight: 1.0}]"
        )


def require_ranked(config: RunConfig, metric: str) -> None:
    """A search can rank the run: each of its validations gives the metric. Raises RunFailed, and nothing is written."""
    metrics = assess.metrics_for([term.score for term in config.train.select], config.score.metrics)
    given = [name for found in metrics.values() for name in found.names if "/" not in name]
    names = ["select", "loss", *given]
    if metric not in names:
        raise RunFailed(
            f"hydra.launcher.halving.metric: a validation of this run gives no '{metric}'{nearest(metric, names)} "
            f"(there are: {', '.join(names)}; train.select names what else is to be computed)"
        )


def require_same_data(partial: Path, print_: str) -> None:
    """At a resume: the data must be what the run began with. Raises RunFailed, and leaves the run as it is."""
    began = record.read(partial)["data"].get("fingerprint") if (partial / "record.json").is_file() else None
    if began not in (None, print_) and (partial / "checkpoints").is_dir():
        raise RunFailed(
            f"{partial} was begun on other data (fingerprint {began}, now {print_}); move it away or give the run "
            "another name"
        )


def on_main_first(accelerator: Accelerator, action: Any) -> Any:
    with accelerator.main_process_first():
        return action()


def already(done: dict[str, Any], print_: str, folder: record.RunFolder, accelerator: Accelerator) -> Path:
    if done["data"]["fingerprint"] != print_:
        raise RunFailed(
            f"{folder.final} holds this config's record, but from other data (fingerprint "
            f"{done['data']['fingerprint']}, now {print_}); move it away or give the run another name"
        )
    if accelerator.is_main_process:
        _LOG.warning("nothing to do: this config's record is in %s", folder.final)
    return folder.final


def prepare(
    config: RunConfig, raw: Any, print_: str, accelerator: Accelerator, splits: Sequence[str] = SPLITS
) -> Setup:
    """Model, tuning mode and data; frozen work on the films of `splits` is done, or found in the cache."""
    whole, groups = build(config, accelerator)
    views = config.data.views
    loaders = data.load(raw, whole.encoder.preprocess, views, whole.llm, config.train, print_)  # type: ignore[arg-type]
    reuse = keep_frozen_work(config, whole, loaders, raw, splits, accelerator)
    return Setup(accelerator, whole, groups, loaders, budget_of(whole, config), reuse)


def build(
    config: RunConfig, accelerator: Accelerator, llm: LanguageModel | None = None
) -> tuple[model.ReportGenerator, tuple[tuning.ParamGroup, ...]]:
    """The model, tuned, and its groups of parameters; around an `llm` that is there already, if one is."""
    if not sys.stderr.isatty():
        disable_progress_bar()  # transformers draws its bars into log files too
    set_seed(config.seed)
    warn_of_emulation(config, accelerator.device)
    whole = model.assemble(config, accelerator.device, DTYPES[config.train.precision], llm)
    return whole, tune(whole, config)


def keep_frozen_work(
    config: RunConfig,
    whole: model.ReportGenerator,
    loaders: data.Loaders,
    raw: Any,
    splits: Sequence[str],
    accelerator: Accelerator,
    hashes: Mapping[str, str] | None = None,
) -> frozen.Reuse:
    """Patches of a frozen encoder, or decoded films, for the studies that the run will look at.

    `hashes` are those of the films by path, if they are known already.
    """
    kept = config.cache
    if not (kept.features or kept.films):
        return frozen.Reuse("none")
    needed = [(getattr(loaders, split), _looked_at(config, loaders, split, splits)) for split in splits]
    hashes = image_hashes(raw, config.paths.cache) if hashes is None else hashes
    folder = config.paths.cache
    return frozen.attach(kept, whole, needed, hashes, folder, config.train.precision, accelerator)


def _looked_at(config: RunConfig, loaders: data.Loaders, split: str, splits: Sequence[str]) -> Iterable[int]:
    """Which studies of a split are read: all that are scored, and of the others those that training comes to."""
    studies = getattr(loaders, split)
    scored = split == "test" or len(splits) == 1
    if split == "train" and not scored:
        return plan_of(studies, config).seen()
    bound = config.score.studies if scored else config.train.eval_studies
    return range(min(len(studies), bound or len(studies)))


def warn_of_emulation(config: RunConfig, device: torch.device) -> None:
    """Say so when this CPU only emulates the run's precision."""
    dtype = DTYPES[config.train.precision]
    if device.type != "cpu" or dtype is torch.float32:
        return
    times = slowdown(dtype, device)
    if times > _EMULATED:
        _LOG.warning(
            "this CPU emulates %s: a matrix product takes %.0f times as long as in fp32; use train.precision=fp32",
            config.train.precision.value,
            times,
        )


def tune(whole: model.ReportGenerator, config: RunConfig) -> tuple[tuning.ParamGroup, ...]:
    """Apply the tuning mode: adapters, rules, dtypes, modes, checkpointing."""
    roles = {"encoder": config.encoder.roles, "llm": config.llm.roles}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 3)
        tuning.attach(whole, config.tuning, roles)
    groups = tuning.decide(whole, config.tuning, roles)
    tuning.cast_frozen(whole, DTYPES[config.train.precision])
    whole.llm.use_checkpointing(config.llm.checkpointing)
    tuning.set_modes(whole, config.tuning.frozen_mode)
    return groups


def budget_of(whole: model.ReportGenerator, config: RunConfig) -> dict[str, Any]:
    """Trainable and total parameters, per part and in all; with budget_match, what it solved and how well it fits."""
    parts = tuning.count(whole)
    total, learns = sum(p.total for p in parts), sum(p.trainable for p in parts)
    match = config.budget_match
    fit = {}
    if match is not None and match.trainable is not None:
        left = learns - match.trainable
        shown = {"setting": match.setting, "value": setting.read(config, match.setting)}
        fit = {"match": shown | {"target": match.trainable, "residual": left}}
    return {
        "trainable": learns,
        "total": total,
        "trainable_percent": 100 * learns / total,
        "parts": {p.part: asdict(p) for p in parts},
        "trainable_names": sorted(tuning.trainable(whole)),
        **fit,
    }


def require_same_trainable(folder: Path, budget: Mapping[str, Any]) -> None:
    """At a resume: the trainable set must be the one that the run began with."""
    if (folder / "record.json").is_file():
        before = record.read(folder).get("budget")
        if before:
            tuning.require_same(budget["trainable_names"], before["trainable_names"], str(folder))


def track(config: RunConfig, frame: Mapping[str, Any], folder: Path) -> Any:
    """The run's tracker, started."""
    identity = RunIdentity(
        frame["id"], filing.title(frame), frame["arm"], filing.tags(frame), filing.JOB_TYPE, str(folder)
    )
    tracker = config.track.build(identity)
    tracker.start()
    tracker.store_init_configuration(filing.settings(frame))
    return tracker


def examine(config: RunConfig, setup: Setup, split: str = "test") -> assess.Evaluation:
    """Write and score a split's reports, with the controls if they are asked for."""
    studies = data.first(getattr(setup.loaders, split), config.score.studies)
    written = assess.predict(setup.model, studies, config.decode, config.train, setup.accelerator)
    outcome = assess.score(written, config.score.metrics, judge_for(config, setup))
    if not config.score.controls:
        return outcome
    blank = assess.blank_reports([setup.model], config.decode, setup.accelerator)[0]
    return controlled(config, setup, outcome, blank)


def controlled(config: RunConfig, setup: Setup, outcome: assess.Evaluation, blank: str) -> assess.Evaluation:
    """The same with the controls' scores; `blank` is the report of a black film."""
    quick = {label: metric for label, metric in config.score.metrics.items() if not metric.slow}
    judge = judge_for(config, setup)
    found = assess.controls(
        outcome.predictions, setup.loaders.train, lambda: blank, quick, judge, config.seed
    )
    return replace(outcome, controls=found)


def judge_for(config: RunConfig, setup: Setup) -> protocol.Judge:
    """The run's protocol, with what it may need: train's reports and the llm's tokenizer."""
    cleaned = getattr(config.data, "cleaner", Cleaner.none)
    material = protocol.Material(
        cleaned=cleaned,
        train=setup.loaders.train.reports,
        train_cleaned=cleaned,
        tokenizer=setup.model.llm.tokenizer,
        section=getattr(config.data, "section", Section.as_given),
        films=config.data.views,
    )
    return protocol.Judge(config.score.protocol, material)


def write_evaluation(folder: Path, outcome: assess.Evaluation) -> None:
    """predictions.jsonl, scores.jsonl, ngrams.npz and, where a metric reads labels, labels.npz."""
    record.write_lines(folder / "predictions.jsonl", [asdict(p) for p in outcome.predictions])
    rows = [
        {"id": p.id} | {name: values[i] for name, values in outcome.per_report.items()}
        for i, p in enumerate(outcome.predictions)
    ]
    record.write_lines(folder / "scores.jsonl", rows)
    ngrams.save(folder / ngrams.FILE, ngrams.count(outcome.judged))
    if outcome.tables:
        ids = tuple(p.id for p in outcome.predictions)
        labels.save(folder / labels.FILE, labels.Labels(ids, outcome.tables))


def frame_of(
    config: RunConfig,
    tree: dict[str, Any],
    choices: Mapping[str, str],
    identity: str,
    accelerator: Accelerator,
) -> dict[str, Any]:
    return {
        "schema": record.SCHEMA,
        "id": identity,
        "arm": record.run_id(tree, seed=False),
        "name": config.name,
        "choices": dict(choices),
        "config": tree,
        "data": {"shareable": config.data.shareable},
        "protocol": protocol.stamp(config.score.protocol),
        "device": {"processes": accelerator.num_processes, **described(accelerator.device)},
        **record.environment(),
    }


def result_of(
    frame: Mapping[str, Any],
    setup: Setup,
    fitted: train.FitResult,
    outcome: assess.Evaluation,
    peak: Mapping[str, Any],
) -> dict[str, Any]:
    splits = {s: len(getattr(setup.loaders, s)) for s in ("train", "val", "test")}
    return {
        **frame,
        "data": {**frame["data"], "studies": splits},
        "status": "finished",
        "budget": setup.budget,
        "training": asdict(fitted.progress),
        "peak_memory": dict(peak),
        "reuse": asdict(setup.reuse),
        "convergence": {k.split("/", 1)[1]: v for k, v in fitted.convergence.summary().items()},
        "protocol": outcome.stamp,
        "scores": outcome.corpus,
        "absent": outcome.absent,
        "controls": outcome.controls,
        "distinct_reports": outcome.distinct,
        "test_studies": len(outcome.predictions),
    }


def ended_record(
    folder: record.RunFolder,
    frame: dict[str, Any],
    error: BaseException,
    started: float,
    accelerator: Accelerator,
    training: Mapping[str, Any] | None = None,
) -> RunFailed:
    """The record of a run that failed or was stopped, unless a finished one stands; gives what is to be raised.

    `training` is how far it came, if it began.
    """
    said = f"{type(error).__name__}: {error}"
    if folder.finished() is not None:
        return RunFailed(f"{said}\nthis config's finished record is in {folder.final}")
    path = folder.partial / "record.json"
    if accelerator.is_main_process:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt | Halved)
        before = record.read(folder.partial) if path.is_file() else {}
        told = {
            "type": type(error).__name__,
            "message": str(error),
            "trace": "".join(traceback.format_exception(error)),
        }
        row = {**before, **frame, "status": "stopped" if stopped else "failed", "error": told}
        row |= {} if training is None else {"training": dict(training)}
        row["data"] = {**before.get("data", {}), **frame["data"]}  # without data, its fingerprint stays
        record.write_json(path, row | {"wall_seconds": time.time() - started})
    return RunFailed(f"{said}\nrecord: {path}")
