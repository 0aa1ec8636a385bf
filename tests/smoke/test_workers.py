"""Real arms by the workers of joblib and Ray: two of them, and gangs."""

import json
import os
import subprocess
import sys
from itertools import takewhile
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
    """Its rows, without what workers' logs bring after it."""
    below = done.stdout[done.stdout.index("\n-  -") :].splitlines()[2:]
    return "\n".join(takewhile(lambda line: line[:1].isdigit(), below))


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


def test_a_gang_on_a_worker_has_its_bound_and_its_search(tmp_path: Path) -> None:
    """Two gangs of two arms, a good and a poor one each; then the same with room for one arm at a time."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the joblib extra")
    words = ["hydra/launcher=joblib", "hydra.launcher.gang=2", "train.steps=9", "train.evals=3"]
    words += ["train.select=[{score: loss, weight: -1.0}]", "projector=linear,mlp"]
    words += ["train.learning_rate=3.0e-3,1.0e-6"]
    words += ["hydra.launcher.halving={eta: 2, metric: loss, rungs: [1], keep: 1}"]
    done = _go(tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the search is split into 2 gangs" in done.stdout + done.stderr
    table = _table(done)
    assert [table.count(status) for status in ("finished", "halved")] == [2, 2]
    assert table.count("number 2 of 2 by loss") == 2
    done = _go(tmp_path / "bound", *words, "hydra.launcher.memory_gb=0.001")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("gang-0: the search is split into 2 gangs") == 1
    assert _table(done).count("finished") == 4
    assert _ran(tmp_path / "bound") == [{"how": "solo"}] * 4


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
