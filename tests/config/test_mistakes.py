"""Each mistake is refused before anything is built, with its key and the nearest right name."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r2g.config.cli import lenient
from r2g.config.paths import config_dir
from r2g.config.resolve import ConfigError
from r2g.core.slots import METRICS
from r2g.core.types import Prediction

Configured = Callable[..., Any]
GROUPS = sorted(path.name for path in Path(config_dir()).iterdir() if path.is_dir())

MISTAKES = {
    "misspelt key": (
        ["train.learning_rat=1"],
        ["train.learning_rat: unknown key; did you mean 'learning_rate'?"],
    ),
    "misspelt key behind +": (["+train.step=5"], ["train.step: unknown key; did you mean 'steps'?"]),
    "misspelt key behind ++": (["++decode.beam=5"], ["decode.beam: unknown key; did you mean 'beams'?"]),
    "misspelt part": (["trian.steps=5"], ["trian: unknown key; did you mean 'train'?"]),
    "unknown top key": (["+sed=5"], ["sed: unknown key; did you mean 'seed'?"]),
    "unknown kind": (
        ["projector.kind=liner"],
        ["projector.kind: unknown projector 'liner'; did you mean 'linear'?"],
    ),
    "no kind": (["encoder.kind=null"], ["encoder: needs `kind:`, one of "]),
    "unknown adapter kind": (
        ["tuning=delta", "tuning.adapters.encoder_lora.kind=lor"],
        ["tuning.adapters.encoder_lora.kind: unknown adapter 'lor'; did you mean 'lora'?"],
    ),
    "text for a number": (["train.steps=many"], ["train.steps: expected int, got 'many'"]),
    "fraction for a count": (["train.steps=1.5"], ["train.steps: expected int, got float 1.5"]),
    "boolean for a count": (["train.steps=true"], ["train.steps: expected int, got bool True"]),
    "number for a boolean": (["train.shuffle=1"], ["train.shuffle: expected bool, got int 1"]),
    "value for a group": (["score.metrics.bleu=5"], ["score.metrics.bleu: needs `kind:`"]),
    "value for a list": (
        ["train.select=label_f1_micro"],
        ["train.select: expected a list, got 'label_f1_micro'"],
    ),
    "unknown choice": (
        ["train.schedule=cosin"],
        ["train.schedule: unknown choice 'cosin'; did you mean 'cosine'?"],
    ),
    "out of range": (["train.batch_size=0"], ["train: batch_size must be at least 1, got 0"]),
    "out of range in a slot": (
        ["projector=mlp", "projector.depth=1"],
        ["projector: depth must be at least 2, got 1"],
    ),
    "both epochs and steps": (["train.epochs=1"], ["train: give exactly one of epochs and steps"]),
    "negative seed": (["seed=-1"], ["seed must not be negative, got -1"]),
    "empty name": (["name=''"], ["name may hold letters"]),
    "name with a folder": (["name=a/b"], ["name may hold letters"]),
    "adapter target that the encoder hasn't": (
        ["encoder=efficientnet_lite0", "tuning=delta"],
        ["tuning.adapters.encoder_lora.targets: encoder 'timm' has no 'attention_qv'"],
    ),
    "misspelt adapter target": (
        ["tuning=delta", "tuning.adapters.encoder_lora.targets=attention_q"],
        ["encoder 'tiny' has no 'attention_q'; did you mean 'attention_qv'?"],
    ),
    "role that the encoder hasn't": (
        ["tuning.rules=[{match: 'encoder.*', role: norm, train: true}]"],
        ["tuning.rules[0].role: encoder has no 'norm'; did you mean 'norms'?"],
    ),
    "score that no metric gives": (
        ["train.select=[{score: label_f1_mikro, weight: 1.0}]"],
        [
            "train.select[0].score: no metric of score.metrics gives 'label_f1_mikro'; did you mean 'label_f1_micro'?"
        ],
    ),
    "order that BLEU hasn't": (["train.select=[{score: bleu_9, weight: 1.0}]"], ["gives 'bleu_9'"]),
    "value that must be given": (
        ["encoder=transformers", "llm=causal_lm"],
        ["encoder.source: must be given", "llm.source: must be given"],
    ),
    "family that isn't known": (
        ["encoder=swin_base", "encoder.shape.model_type=swim"],
        ["encoder: ", "did you mean 'swin'?"],
    ),
    "misspelt shape": (["encoder=swin_base", "+encoder.shape.embed_dims=96"], ["embed_dims"]),
    "free setting that isn't there": (
        ["projector=mlp", "budget_match={trainable: 5e4, setting: projector.hiden}"],
        [
            "budget_match.setting: 'projector.hiden' is no whole number of the model; did you mean 'projector.hidden'?"
        ],
    ),
    "free setting that isn't a count": (
        ["budget_match={trainable: 5e4, setting: projector.norm}"],
        ["budget_match.setting: 'projector.norm' is no whole number of the model"],
    ),
    "a budget without a target": (
        ["budget_match={setting: projector.pool}"],
        ["budget_match: give exactly one of trainable and like"],
    ),
    "several at once": (
        [
            "train.stepz=5",
            "projector.kind=mpl",
            "decode.beams=0",
            "tuning=delta",
            "encoder=efficientnet_lite0",
        ]
        + ["train.select=[{score: cidre, weight: 1.0}]"],
        ["train.stepz", "did you mean 'mlp'?", "decode: beams must be", "has no 'attention_qv'"],
    ),
    "several of one group": (
        ["train.batch_size=0", "train.micro_batch=0", "decode.top_p=2", "decode.beams=0"],
        ["4 mistake(s)", "train: batch_size must", "train: micro_batch must", "top_p must", "beams must"],
    ),
    "several of one slot": (
        ["projector=qformer_lite", "projector.queries=0", "projector.depth=0", "projector.pool=0"],
        ["3 mistake(s)", "projector: queries must", "projector: depth must", "projector: pool must"],
    ),
    "a range beside a wrong type": (
        ["train.steps=many", "train.batch_size=0", "seed=-1", "score.metrics.bleu.order=0"],
        ["4 mistake(s)", "train.steps: expected int", "train: batch_size must", "seed must", "order must"],
    ),
    "an interpolation that leads nowhere": (
        ["paths.cache=${nowhere}", "train.stepz=5"],
        ["2 mistake(s)", "paths.cache: Interpolation key 'nowhere' not found", "train.stepz: unknown key"],
    ),
    "a number that is none": (
        ["train.target_loss=nan"],
        ["train.target_loss: expected a finite number, got nan"],
    ),
    "no end to a number": (["train.learning_rate=inf"], ["train.learning_rate: expected a finite number"]),
    "a setting taken away": (["~train.steps"], ["train.steps: missing"]),
    "a group taken away": (["~tuning"], ["tuning: missing"]),
    "several across parts": (
        ["projector.kind=mpl", "tuning=delta", "encoder=efficientnet_lite0"]
        + ["train.select=[{score: cidre, weight: 1.0}]"],
        ["3 mistake(s)", "did you mean 'mlp'?", "has no 'attention_qv'", "did you mean 'cider'?"],
    ),
}


@pytest.mark.parametrize("title", MISTAKES)
def test_refused(title: str, configured: Configured) -> None:
    overrides, expected = MISTAKES[title]
    with pytest.raises(ConfigError) as caught:
        configured(*overrides)
    for words in expected:
        assert words in str(caught.value)
    assert len(caught.value.problems) == len(set(caught.value.problems))


def test_every_mistake_is_one_line(configured: Configured) -> None:
    with pytest.raises(ConfigError) as caught:
        configured("seed=x", "name=1", "train.steps=y", "decode.beems=1")
    assert len(caught.value.problems) == 4
    assert str(caught.value).startswith("4 mistake(s) in the config:\n")
    assert len(str(caught.value).splitlines()) == 5


def test_misspelt_key_in_an_experiment_file(tmp_path: Path, configured: Configured) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "# @package _global_\ntrain: {learning_rte: 1.0}\nproyector: {pool: 1}\n"
    )
    with pytest.raises(ConfigError) as caught:
        configured("+experiment=mine", search=tmp_path)
    assert "train.learning_rte: unknown key; did you mean 'learning_rate'?" in str(caught.value)
    assert "proyector: unknown key; did you mean 'projector'?" in str(caught.value)


def test_an_experiment_of_ones_own_is_taken(tmp_path: Path, configured: Configured) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\ntrain: {learning_rate: 0.5}\n")
    assert configured("+experiment=mine", search=tmp_path).train.learning_rate == 0.5


def test_all_scores_that_metrics_promise_can_select(configured: Configured) -> None:
    names = ["label_precision_micro", "label_recall_micro", "bleu_4", "rouge_l", "meteor", "cider", "loss"]
    chosen = ", ".join(f"{{score: {name}, weight: 1.0}}" for name in names)
    assert [part.score for part in configured(f"train.select=[{chosen}]").train.select] == names


@pytest.mark.parametrize("name", METRICS.names())
def test_metrics_give_what_they_promise(name: str, configured: Configured) -> None:
    by_loss = "train.select=[{score: loss, weight: -1.0}]"
    offered = [
        configured(f"score={s}", by_loss).score.metrics for s in ("default", "clinical", "model_based")
    ]
    metric = next(m for metrics in offered for m in metrics.values() if m.kind == name)
    if metric.slow:  # its own test scores with it; here its Java, or its weights, would take seconds
        assert all(score.startswith(name) for score in metric.names)
        return
    texts = ("The heart is large.", "The lungs are clear.")
    rows = [Prediction(str(i), text, text, ("cardiomegaly",)) for i, text in enumerate(texts)]
    corpus = metric.score(rows).corpus
    assert {key for key in corpus if "/" not in key} == set(metric.names)


def test_the_command_line_leaves_groups_and_signs_alone() -> None:
    given = ["tuning=delta", "+a.b=1", "~seed", "hydra.job.chdir=true", "-m", "seed=1", "train.steps=2"]
    assert lenient(given, ["tuning"]) == [*given[:6], "++train.steps=2"]


def test_help_lists_everything_and_imports_no_torch() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['r2g.run', '--help']\n"
        "try:\n    runpy.run_module('r2g.run', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'accelerate', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    for path in Path(config_dir()).glob("*/*.yaml"):
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"{path.parent.name}:"))
        assert path.stem in line.replace(",", " ").split()
    launchers = next(line for line in done.stdout.splitlines() if line.startswith("hydra/launcher:"))
    for path in Path(config_dir(), "hydra", "launcher").glob(
        "*.yaml"
    ):  # whether or not its plugin is installed
        assert path.stem in launchers.replace(",", " ").split()
    for group in yaml.safe_load(Path(config_dir(), "config.yaml").read_text())["defaults"][:5]:
        assert set(group) <= set(GROUPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.stpes=5", "trian.steps=1"], "train.stpes: unknown key; did you mean 'steps'?"),
        (["tuning=detla"], "delta"),
        (["+experiment=smokey"], "smoke"),
        (["~train.stpes"], "'train.stpes' does not exist"),
    ],
    ids=["key", "group", "experiment", "key taken away"],
)
def test_the_command_line_answers_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    done = command("r2g.run", *arguments, f"paths.outputs={tmp_path}")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
