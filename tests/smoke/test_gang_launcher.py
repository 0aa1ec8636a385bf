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

_MANY = ["-m", "r2g.run", "-m", "+experiment=smoke", "hydra/launcher=gang", "track=none", "train.device=cpu"]
_MANY += ["score.controls=false"]


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


@pytest.mark.slow
def test_two_processes_train_a_gang_as_one_does(tmp_path: Path) -> None:
    words = [*_MANY, "tuning=delta,shallow,llm_lora", "train.batch_size=7", "train.micro_batch=3"]
    assert _go(words, tmp_path / "one").returncode == 0
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
    launch += ["--rdzv_endpoint", "localhost:0"]
    done = _go([*words, "train.processes=2"], tmp_path / "two", *launch)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = _losses(tmp_path / "one"), _losses(tmp_path / "two")
    assert one.keys() == other.keys()
    records = [{r["id"]: r for r in _records(tmp_path / name)} for name in ("one", "two")]
    assert {r["device"]["processes"] for r in records[1].values()} == {2}
    for name, losses in one.items():
        if records[0][name]["choices"]["tuning"] == "shallow":  # dropout is each process's own
            assert losses == pytest.approx(other[name], abs=1e-5)
            assert records[0][name]["scores"] == pytest.approx(records[1][name]["scores"], abs=1e-6)
