"""Reports written for a split, scored as a whole, and held against controls that don't see the image."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from r2g import together
from r2g.config.schema import DecodeSettings, TrainSettings
from r2g.core.labels import LabelTable
from r2g.core.resample import others
from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.data import Share, Studies, batches, by_length, collate_for
from r2g.model import Batch, ReportGenerator
from r2g.protocol import Judge

_CANDIDATES = 24  # train reports tried as the constant one
_JUDGES = 100  # train references that they are tried against


@dataclass(frozen=True)
class Evaluation:
    """What a split's reports are worth; `controls` maps a control's name to corpus scores.

    `predictions` are as the data and the model gave them, `judged` as the protocol of `stamp` had them scored;
    `tables` are the labels that metrics read.
    """

    predictions: tuple[Prediction, ...]
    judged: tuple[Prediction, ...]
    stamp: dict[str, str]
    corpus: dict[str, float]
    per_report: dict[str, list[float]]
    absent: dict[str, str]
    tables: dict[str, LabelTable] = field(default_factory=dict)
    controls: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def distinct(self) -> int:
        """How many different texts were written: few of them, and the films hardly matter."""
        return len({p.hypothesis for p in self.predictions})


@dataclass(frozen=True)
class Work:
    """What is to be scored: reports as written, by these metrics, under a protocol."""

    predictions: Sequence[Prediction]
    metrics: Mapping[str, Any]
    judge: Judge


def score(predictions: Sequence[Prediction], metrics: Mapping[str, Any], judge: Judge) -> Evaluation:
    """Run all metrics on all predictions: corpus scores are never averages over processes or batches."""
    return score_all([Work(predictions, metrics, judge)])[0]


def score_all(works: Sequence[Work]) -> list[Evaluation]:
    """The same for several runs; a metric with the same settings in several of them starts once."""
    judged = [work.judge(work.predictions) for work in works]
    said: list[dict[str, Scores]] = [{} for _ in works]
    asked: dict[tuple[str, Any], list[int]] = {}
    for i, work in enumerate(works):
        for label, metric in work.metrics.items():
            asked.setdefault((label, metric), []).append(i)
    for (label, metric), users in asked.items():
        found = metric.score_all([judged[i] for i in users])
        for i, result in zip(users, found, strict=True):
            said[i][label] = result
    return [
        _evaluation(work, rows, {label: results[label] for label in work.metrics})
        for work, rows, results in zip(works, judged, said, strict=True)
    ]


def _evaluation(work: Work, judged: Sequence[Prediction], said: Mapping[str, Scores]) -> Evaluation:
    corpus: dict[str, float] = {}
    per_report: dict[str, list[float]] = {}
    tables: dict[str, LabelTable] = {}
    for result in said.values():
        corpus |= result.corpus
        per_report |= result.per_report
        tables |= result.tables
    absent = {label: result.absent for label, result in said.items() if result.absent}
    stamp = work.judge.stamp(judged)
    return Evaluation(tuple(work.predictions), tuple(judged), stamp, corpus, per_report, absent, tables)


def metrics_for(select: Sequence[str], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that give the scores that a selection names (`bleu_4` comes from `bleu`; `loss` from none)."""
    return {label: metric for label, metric in metrics.items() if set(metric.names) & set(select)}


def predict(
    model: ReportGenerator,
    studies: Studies,
    decode: DecodeSettings,
    settings: TrainSettings,
    accelerator: Accelerator,
    title: str = "write",
) -> list[Prediction]:
    """One report for each study, on all processes, gathered by id in the split's order."""
    return predict_all([(model, studies)], decode, settings, accelerator, title)[0]


@torch.no_grad()
def predict_all(
    works: Sequence[tuple[ReportGenerator, Studies]],
    decode: DecodeSettings,
    settings: TrainSettings,
    accelerator: Accelerator,
    title: str = "write",
) -> list[list[Prediction]]:
    """The same for several models on one llm: a batch of each is written at a time, all in one go."""
    share = Share(accelerator.process_index, accelerator.num_processes)
    orders = [by_length(studies, decode.batch_size, share) for _, studies in works]
    written: list[list[tuple[str, str]]] = [[] for _ in works]
    loaders = [
        batches(studies, order, collate_for(studies, model.llm, settings), settings.workers)
        for (model, studies), order in zip(works, orders, strict=True)
    ]
    quiet = None if accelerator.is_main_process else True
    for row in tqdm(zip_longest(*loaders), title, max(map(len, orders)), leave=False, disable=quiet):
        found = [(i, batch.to(accelerator.device)) for i, batch in enumerate(row) if batch is not None]
        with accelerator.autocast():
            texts = together.reports([works[i][0] for i, _ in found], [batch for _, batch in found], decode)
        for (i, batch), told in zip(found, texts, strict=True):
            written[i] += zip(batch.ids, told, strict=True)
    return [_gathered(studies, mine, accelerator) for (_, studies), mine in zip(works, written, strict=True)]


def _gathered(studies: Studies, written: list[tuple[str, str]], accelerator: Accelerator) -> list[Prediction]:
    found = dict(gather_object(written) if accelerator.num_processes > 1 else written)
    if set(found) != set(studies.ids):
        raise RuntimeError(f"{len(found)} reports came back for {len(studies)} studies")
    rows = zip(studies.ids, studies.reports, studies.labels, strict=True)
    return [Prediction(i, ref, found[i], None if lab is None else tuple(lab)) for i, ref, lab in rows]


@torch.no_grad()
def mean_loss(
    model: ReportGenerator, studies: Studies, settings: TrainSettings, accelerator: Accelerator
) -> float:
    """Mean cross-entropy over all report tokens of a split, in nats."""
    share = Share(accelerator.process_index, accelerator.num_processes)
    order = by_length(studies, settings.micro_batch, share)
    total = torch.zeros(2, dtype=torch.float64 if accelerator.device.type == "cpu" else torch.float32)
    total = total.to(accelerator.device)
    for batch in batches(studies, order, collate_for(studies, model.llm, settings), settings.workers):
        with accelerator.autocast():
            loss = model(batch.to(accelerator.device))
        total += torch.stack([loss, torch.tensor(len(batch.targets), device=loss.device)])
    summed = accelerator.reduce(total, "sum")
    return (summed[0] / summed[1].clamp(min=1)).item()


def controls(
    predictions: Sequence[Prediction],
    train: Studies,
    blank: Callable[[], str],
    metrics: Mapping[str, Any],
    judge: Judge,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Scores of reports that don't come from the study's image.

    * shuffled: each study gets the report written for another study's image. Decoding doesn't look across studies,
      so this is what the model writes when the images are shuffled.
    * blank: the report written for a black image.
    * constant: of some train reports the one that is nearest to a sample of the others (mean ROUGE-L).
    """
    constant = constant_report(train, seed)
    variants = {
        "shuffled": [predictions[i].hypothesis for i in others(len(predictions), seed)],
        "blank": [blank()] * len(predictions),
        "constant": [constant] * len(predictions),
    }
    scored = {}
    for name, texts in variants.items():
        rows = [replace(p, hypothesis=t) for p, t in zip(predictions, texts, strict=True)]
        scored[name] = score(rows, metrics, judge).corpus
    return scored


def constant_report(train: Studies, seed: int) -> str:
    """The candidate among train's reports with the best mean ROUGE-L against a sample of the others."""
    return _constant(tuple(train.reports), seed)


@lru_cache(maxsize=32)  # the arms of a gang ask alike
def _constant(reports: tuple[str, ...], seed: int) -> str:
    random = np.random.default_rng(seed)
    often = [text for text, _ in Counter(reports).most_common(_CANDIDATES // 2)]
    drawn = random.choice(len(reports), min(len(reports), _CANDIDATES), replace=False)
    candidates = list(dict.fromkeys(often + [reports[int(i)] for i in drawn]))[:_CANDIDATES]
    judges = random.choice(len(reports), min(len(reports), _JUDGES), replace=False)
    rouge = METRICS.get("rouge_l")()

    def worth(text: str) -> float:
        rows = [Prediction(str(i), reports[int(i)], text) for i in judges]
        return rouge.score(rows).corpus["rouge_l"]

    return max(candidates, key=worth)


@torch.no_grad()
def blank_reports(
    models: Sequence[ReportGenerator], decode: DecodeSettings, accelerator: Accelerator
) -> list[str]:
    """The report of each model, all on one llm, for one black film."""
    films = [_black(model, accelerator.device) for model in models]
    with accelerator.autocast():
        return [texts[0] for texts in together.reports(models, films, decode)]


def _black(model: ReportGenerator, device: torch.device) -> Batch:
    preprocess: Any = model.encoder.preprocess
    shape = (1, 1, preprocess.channels, preprocess.size, preprocess.size)
    return Batch(
        ids=("blank",),
        images=torch.zeros(shape, dtype=torch.uint8, device=device),
        view_mask=torch.ones(1, 1, dtype=torch.bool, device=device),
        films=torch.zeros(1, dtype=torch.long, device=device),
        tokens=torch.zeros(1, 1, dtype=torch.long, device=device),
        targets=torch.zeros(0, dtype=torch.long, device=device),
    )
