"""hydra/launcher=gang from the command line: one process, a table, resumes, two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

_EACH = ["+experiment=smoke", "track=none", "train.device=cpu", "score.controls=false"]
_MANY = ["-m", "r2g.run", "-m", "hydra/launcher=gang", *_EACH]
_BATCH = ["train.batch_size=7", "train.micro_batch=3"]


def _go(words: list[str], outputs: Path, *launch: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, *launch, *words, f"paths.outputs={outputs}"]
    return subprocess.run(call, env=_env(outputs), capture_output=True, text=True, check=False)


def _env(outputs: Path) -> dict[str, str]:
    cache = str(outputs.parent / "cache")
    return {**os.environ, "HF_HUB_OFFLINE": "1", "R2G_CACHE": cache, "OMP_NUM_THREADS": "1"}


def _records(outputs: Path, ending: str = "") -> list[dict[str, Any]]:
    found = sorted(outputs.glob(f"smoke/*{ending}/record.json"))
    return [json.loads(path.read_text()) for path in found]


def _losses(outputs: Path) -> dict[str, list[float]]:
    return {
        path.parent.name.removesuffix(".partial"): [
            row["train/loss"] for row in map(json.loads, path.read_text().splitlines()) if "train/loss" in row
        ]
        for path in outputs.glob("smoke/*/curve.jsonl")
    }


@pytest.mark.slow
def test_jobs_share_a_process_and_one_that_fails_is_told(tmp_path: Path) -> None:
    words = [*_MANY, "projector=linear,mlp", "train.learning_rate=1.0e-3,1.0e30", "train.clip_norm=null"]
    done = _go([*words, "train.steps=12"], tmp_path / "out")
    assert done.returncode == 1, done.stdout + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    table = done.stdout[done.stdout.rindex("#  arm") :]
    assert table.count("finished") == 2
    assert table.count("the loss is nan") == 2
    good = [r for r in _records(tmp_path / "out") if r["status"] == "finished"]
    assert [r["ran"] for r in good] == [{"how": "gang", "arms": 4}] * 2
    again = _go([*words, "train.steps=12"], tmp_path / "out")
    assert again.stdout[again.stdout.rindex("#  arm") :].count("already there") == 2


@pytest.mark.slow
def test_a_gang_has_its_bounds_and_a_mistake_is_one_arm_s(tmp_path: Path) -> None:
    words = [*_MANY, "seed=0,1,2", "hydra.launcher.max_arms=2", "train.steps=2"]
    done = _go(words, tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(r["ran"]["how"] for r in _records(tmp_path / "out")) == ["gang", "gang", "solo"]
    done = _go([*_MANY, "seed=3", "train.steps=2,-2"], tmp_path / "out")
    assert done.returncode == 1
    assert "train: steps must be at least 1 or null, got -2" in done.stdout
    assert "finished" in done.stdout[done.stdout.rindex("#  arm") :]
    done = _go([*words, "hydra.launcher.max_arms=0"], tmp_path / "out")
    assert "hydra.launcher.max_arms must be at least 1" in done.stderr


@pytest.mark.slow
def test_a_gang_that_memory_is_too_short_for_goes_on_in_smaller_ones(tmp_path: Path) -> None:
    """The allocator's own error in what the gang shares, wherever more than two arms train side by side."""
    out, source = tmp_path / "out", Path(__file__).resolve().parents[2] / "src"
    faulty = f"{Path(__file__).with_name('faulty')}{os.pathsep}{source}"
    call = [sys.executable, "-m", "faulty_run", *_MANY[2:], "seed=0,1,2,3", "train.steps=4", "train.evals=2"]
    env = _env(out) | {"SCARCE": "1", "PYTHONPATH": faulty}
    done = subprocess.run(
        [*call, f"paths.outputs={out}"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "memory is too short for a gang of 4: on in gangs of 2 and 2" in done.stdout + done.stderr
    assert done.stdout[done.stdout.rindex("#  arm") :].count("finished") == 4
    assert [r["ran"] for r in _records(out)] == [{"how": "gang", "arms": 2}] * 4
    assert [r["training"]["attempts"] for r in _records(out)] == [1] * 4


@pytest.mark.slow
def test_a_killed_gang_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    words = [*_MANY, "tuning=delta,shallow", "train.steps=40", "train.checkpoint_steps=3"]
    assert _go(words, tmp_path / "whole").returncode == 0
    broken = tmp_path / "broken"
    call = [sys.executable, *words, f"paths.outputs={broken}"]
    process = subprocess.Popen(call, env=_env(broken), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(list(broken.glob("smoke/*/checkpoints/step-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not _records(broken) or all(r["status"] == "running" for r in _records(broken))
    done = _go(words, broken)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = _losses(tmp_path / "whole"), _losses(broken)
    assert one.keys() == other.keys()
    for name, losses in one.items():
        assert losses == pytest.approx(other[name], abs=1e-5)


_TWO = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
_TWO += ["--rdzv_endpoint", "localhost:0"]
# Without dropout, which is each process's own.
_ALIKE = (
    ["tuning=shallow"],
    ["tuning=shallow", "projector=mlp", "projector.hidden=24", "train.learning_rate=5.0e-4"],
    ["tuning=delta", "tuning.adapters.encoder_lora.dropout=0"],
    ["tuning=soft_prompt"],
    ["tuning=llm_lora", "tuning.adapters.llm_lora.dropout=0"],
)


def _on_one_and_two(arms: list[list[str]], folder: Path, *launcher: str) -> list[dict[str, dict[str, Any]]]:
    """The records by id, whatever became of the runs, of one process and of two."""
    done = []
    for name, launch, more in (("one", [], []), ("two", _TWO, ["train.processes=2"])):
        words = [*_EACH, f"paths.outputs={folder / name}", *more]
        jobs = folder / f"{name}.json"
        jobs.write_text(json.dumps([{"number": i, "words": words + arm} for i, arm in enumerate(arms)]))
        done.append(_go([*_MANY, f"hydra.launcher.jobs={jobs}", *launcher], folder / name, *launch))
    for each in done:
        assert each.returncode == 0, each.stderr[-3000:]
    found = [{r["id"]: r for r in _records(folder / name)} for name in ("one", "two")]
    assert {r["device"]["processes"] for r in found[1].values()} == {2}
    assert found[0].keys() == found[1].keys()
    one, other = _losses(folder / "one"), _losses(folder / "two")
    for name, losses in one.items():
        assert len(losses) == len(other[name])
        assert losses == pytest.approx(other[name], abs=1e-5), found[0][name]["choices"]
    return found


@pytest.mark.slow
def test_two_processes_train_a_gang_as_one_does(tmp_path: Path) -> None:
    one, two = _on_one_and_two([_BATCH + arm for arm in _ALIKE], tmp_path)
    assert sorted(r["ran"]["how"] for r in two.values()) == ["gang"] * 4 + ["turn"]
    for name, told in one.items():
        assert told["status"] == two[name]["status"] == "finished"
        assert told["scores"] == pytest.approx(two[name]["scores"], abs=1e-6)


@pytest.mark.slow
def test_two_processes_halve_a_search_as_one_does(tmp_path: Path) -> None:
    words = [*_BATCH, "train.steps=9", "train.evals=3", "train.select=[{score: loss, weight: -1.0}]"]
    arms = [
        [*words, f"train.learning_rate={rate}", f"seed={seed}"]
        for rate in (1e-2, 1e-3, 1e-6)
        for seed in (0, 1)
    ]
    search = "hydra.launcher.halving={eta: 2, metric: loss, rungs: [1, 2], keep: 1}"
    one, two = _on_one_and_two(arms, tmp_path, search)
    assert sorted(r["status"] for r in two.values()) == ["finished"] * 2 + ["stopped"] * 4
    for name, told in one.items():
        other = two[name]
        assert told["status"] == other["status"]
        assert told["training"]["step"] == other["training"]["step"]
        if told["status"] == "stopped":
            assert told["error"]["type"] == other["error"]["type"] == "Halved"
            places = [r["error"]["message"].split(" by ")[0] for r in (told, other)]
            assert places[0] == places[1]
