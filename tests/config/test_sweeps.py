"""Every sweep composes, every arm of it resolves, and W&B's sweeps name runs that would start."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r2g import budget
from r2g.config.resolve import ConfigError, resolve, to_tree
from r2g.config.sweep import compose_runs, titles
from r2g.record import run_id

pytestmark = pytest.mark.usefixtures("untraced")

ROOT = Path(__file__).resolve().parents[2] / "sweeps"
SWEEPS = sorted(ROOT.glob("*.yaml"))
PARTS = sorted(path for path in ROOT.glob("*/*.yaml") if path.parent.name != "wandb")
WANDB = sorted((ROOT / "wandb").glob("*.yaml"))


def _stem(path: Path) -> str:
    return path.stem


def test_no_file_escapes() -> None:
    assert {*SWEEPS, *PARTS, *WANDB} == set(ROOT.rglob("*.yaml"))
    assert {"tuning_modes", "projectors", "encoders", "paper", "budgets"} <= {path.stem for path in SWEEPS}


@pytest.mark.parametrize("path", SWEEPS, ids=_stem)
def test_every_run_of_a_sweep_resolves_and_is_another(path: Path) -> None:
    found = compose_runs([], str(ROOT), path.stem)
    node = yaml.safe_load(path.read_text())["hydra"]
    assert found.many
    assert node["mode"] == "MULTIRUN"
    sizes = [len(str(axis).split(",")) for axis in node["sweeper"]["params"].values()]
    assert len(found.configs) == len(set(found.titles)) > 1
    total = 1
    for size in sizes:
        total *= size
    assert len(found.configs) == total
    named = all(config.name == path.stem for config in found.configs)
    assert named or "+experiment" in node["sweeper"]["params"]
    unsolved = {run_id(to_tree(config)) for config in found.configs}
    assert len(unsolved) == total


@pytest.mark.parametrize("path", [*SWEEPS, *WANDB], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_says_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", PARTS, ids=_stem)
def test_every_part_belongs_to_a_sweep(path: Path) -> None:
    axes = [yaml.safe_load(sweep.read_text())["hydra"]["sweeper"]["params"] for sweep in SWEEPS]
    values = [axis[path.parent.name].split(",") for axis in axes if path.parent.name in axis]
    assert any(path.stem in names for names in values)


@pytest.mark.parametrize("path", WANDB, ids=_stem)
def test_the_arms_that_wandb_hands_out_resolve(path: Path, composed: Callable[..., Any]) -> None:
    spec = yaml.safe_load(path.read_text())
    words = [word for word in spec["command"] if not word.startswith(("${", "-"))]
    assert spec["program"] == "r2g.run"
    assert spec["command"][-1] == "${args_no_hyphens}"
    axes = [
        [f"{key}={value}" for value in axis.get("values", [axis.get("min"), axis.get("max")])]
        for key, axis in spec["parameters"].items()
    ]
    # A grid's product is that of the sweep beside it, which is resolved above: here each value comes once.
    grid = spec["method"] == "grid"
    arms = (
        [[axis[min(i, len(axis) - 1)] for axis in axes] for i in range(max(map(len, axes)))]
        if grid
        else itertools.product(*axes)
    )
    for arm in arms:
        assert resolve(composed(*words, *arm)).name == path.stem
    if grid:
        params = yaml.safe_load((ROOT / path.name).read_text())["hydra"]["sweeper"]["params"]
        listed = {key: ",".join(map(str, axis["values"])) for key, axis in spec["parameters"].items()}
        assert listed == params


@pytest.mark.slow
def test_plain_words_name_the_same_runs_as_a_sweep() -> None:
    words = ["tuning=shallow,delta,deep,llm_lora,soft_prompt,bitfit", "seed=0,1,2", "name=tuning_modes"]
    plain, sweep = compose_runs(words, many=True), compose_runs([], str(ROOT), "tuning_modes")
    assert plain.configs == sweep.configs


def test_words_on_the_command_line_win_over_a_sweep(tmp_path: Path) -> None:
    found = compose_runs(["seed=7", "train.steps=3"], str(ROOT), "projectors")
    assert [config.seed for config in found.configs] == [7, 7, 7]
    assert {config.train.steps for config in found.configs} == {3}


def test_an_axis_with_two_values_at_once_is_refused(tmp_path: Path) -> None:
    text = "defaults: [config, _self_]\nhydra: {mode: MULTIRUN, sweeper: {params: {train.steps: '3,4'}}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match="train.steps: given twice"):
        compose_runs(["train.steps=5"], str(tmp_path), "mine")
    (tmp_path / "mine.yaml").write_text(text.replace("train.steps", "++train.steps"))
    assert [c.train.steps for c in compose_runs(["train.steps=5"], str(tmp_path), "mine").configs] == [5]


def test_mistakes_of_all_arms_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_runs(["projector=linear,mlp", "train.stesp=3"], many=True)
    assert len(caught.value.problems) == 2
    assert "projector=mlp: train.stesp: unknown key; did you mean 'steps'?" in caught.value.problems


def test_titles_say_what_sets_runs_apart() -> None:
    assert titles([["a=1", "++b=2"], ["a=1", "++b=3"]]) == ("b=2", "b=3")
    assert titles([["a=1", "+b=2"]]) == ("a=1 b=2",)
    assert titles([[]]) == ("(as it is)",)


@pytest.mark.slow
def test_a_sweeps_budget_counts_each_arm_once_and_adds_up() -> None:
    found = budget.arms(compose_runs(["+experiment=smoke"], str(ROOT), "projectors"), None)
    assert [arm.title for arm in found] == ["projector=linear", "projector=mlp", "projector=qformer_lite"]
    assert {arm.runs for arm in found} == {3}
    assert {arm.samples for arm in found} == {48}
    assert [arm.cost.budget["trainable"] for arm in found][:2] == [37_440, 74_496]
    each = found[0].cost.flops
    assert found[0].teraflop == pytest.approx(3 * 48 * (each.forward + each.backward) / 1e12)
    last = next(line for line in budget.show_arms(found).splitlines() if line.startswith("in all"))
    assert last.split()[2:4] == ["9", "-"]
    assert last.split()[-2] == "432"


def test_a_run_counted_in_epochs_needs_the_number_of_studies() -> None:
    words = ["+experiment=smoke", "train.steps=null", "train.epochs=2"]
    runs = compose_runs([*words, "seed=0,1"], many=True)
    assert budget.arms(runs, None)[0].samples == 2 * 48  # phantoms are as many as asked for
    assert budget.arms(runs, 100)[0].samples == 200


def test_a_search_is_one_arm_times_its_trials() -> None:
    words = ["hydra/sweeper=search", "hydra.sweeper.n_trials=7", "+experiment=smoke"]
    words += ["train.learning_rate=tag(log,interval(1e-4,1e-2))", "projector=mlp,linear"]
    runs = compose_runs(words, many=True)
    assert (runs.trials, len(runs.configs)) == (7, 1)
    assert (runs.configs[0].projector.kind, runs.configs[0].train.learning_rate) == ("mlp", 1e-4)
    assert budget.arms(runs, None)[0].runs == 7


@pytest.mark.slow
def test_the_command_shows_a_sweep_in_one_table(command: Callable[..., Any]) -> None:
    done = command("r2g.budget", "-cd", ROOT, "-cn", "budgets", "+experiment=smoke")
    assert done.returncode == 0, done.stderr
    assert "spend=encoder_lora: budget_match: tuning.adapters.encoder_lora.rank is 8" in done.stdout
    assert sum(line.startswith("in all") for line in done.stdout.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["process", "gang"])
def test_a_search_runs_and_finds_its_trials_again(tmp_path: Path, launcher: str) -> None:
    words = [sys.executable, "-m", "r2g.run", "-m", "hydra/sweeper=search", "hydra.sweeper.n_trials=2"]
    words += [f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2"]
    words += ["+experiment=smoke", "track=none", f"paths.outputs={tmp_path}", "score.controls=false"]
    words += ["train.learning_rate=tag(log,interval(1e-4,1e-2))"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("smoke/*/record.json"))) == 2
    again = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert again.returncode == 0, again.stderr
    table = again.stdout[again.stdout.rindex("#  arm") :]
    assert table.count("already there") == 2
