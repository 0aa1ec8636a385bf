"""Real arms by the workers of joblib and Ray: two of them, and gangs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def _go(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "R2G_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "r2g.run", "-m", "+experiment=smoke", "track=none", "score.controls=false"]
    call += ["train.device=cpu", f"paths.outputs={folder / 'out'}", *words]
    return subprocess.run(call, env=env, capture_output=True, text=True, check=False, timeout=900)


def _table(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout[done.stdout.index("\n-  -") :]


def _ran(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text())["ran"] for path in folder.glob("out/smoke/*/record.json")]


def test_two_arms_by_joblib(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the joblib extra")
    done = _go(tmp_path, "hydra/launcher=joblib", "seed=0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _table(done).count("finished") == 2
    assert _ran(tmp_path) == [{"how": "solo"}] * 2
    again = _go(tmp_path, "hydra/launcher=joblib", "seed=0,1")
    assert _table(again).count("already there") == 2


def test_gangs_beside_each_other(tmp_path: Path) -> None:
    """Two gangs of two; a mistake in one arm's config is that arm's."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the joblib extra")
    words = ["hydra/launcher=joblib", "hydra.launcher.gang=2", "projector=linear,mlp", "train.steps=2,3"]
    done = _go(tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _table(done).count("finished") == 4
    assert _ran(tmp_path) == [{"how": "gang", "arms": 2}] * 4
    done = _go(tmp_path, "hydra/launcher=joblib", "hydra.launcher.gang=2", "train.steps=4,-2")
    assert done.returncode == 1
    assert "train: steps must be at least 1 or null, got -2" in _table(done)
    assert "finished" in _table(done)
    assert "1 of 2 arms did not finish" in done.stderr


def test_two_arms_by_ray(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs the ray extra")
    words = ["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2"]
    done = _go(tmp_path, *words, "seed=0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _table(done).count("finished") == 2
    assert _ran(tmp_path) == [{"how": "solo"}] * 2


def test_ray_tells_arms_apart_and_ends_them_in_good_order(stubs: Any) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs the ray extra")
    words = ["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2", "number=0,4,6,7"]
    done = stubs.go(*words, "hydra.launcher.minutes=0.1", FAULTS="1", seconds=300)
    assert done.returncode == 1, done.stderr
    statuses = [status for status, _ in stubs.rows(done.stdout).values()]
    assert statuses == ["finished", "failed", "killed", "timed out"]
    again = stubs.go(*words, seconds=300)
    assert again.returncode == 0, again.stderr
