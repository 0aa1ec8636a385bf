"""A sweep of real runs whose arms fail in every way, and the same command again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).with_name("faulty")
_SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.slow
def test_of_8_arms_4_fail_in_4_ways_and_the_second_call_runs_exactly_those(tmp_path: Path) -> None:
    env = {**os.environ, "R2G_CACHE": str(tmp_path / "cache"), "R2G_OUTPUTS": str(tmp_path / "out")}
    env["PYTHONPATH"] = f"{_HERE}{os.pathsep}{_SOURCE}"
    call = [sys.executable, "-m", "r2g.run", "-m", "+experiment=smoke", "seed=range(0,8)", "track=none"]
    call += ["train.checkpoint_steps=1", "score.controls=false", "train.device=cpu"]
    call += ["hydra.launcher.module=faulty_run", "hydra.launcher.parallel=2"]
    limits = ["hydra.launcher.minutes=1.5", "hydra.launcher.grace_seconds=2"]
    first = subprocess.run(
        [*call, *limits], env=env | {"FAULTS": "1"}, capture_output=True, text=True, check=False
    )
    print(first.stdout)
    assert first.returncode == 1
    assert "4 of 8 arms did not finish" in first.stderr
    for line in ("ValueError: this arm raises", "this arm exits", "killed by SIGKILL", "timed out"):
        assert line in first.stdout
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/smoke/*/record.json")}
    done = {p: s for p, s in finished.items() if p.parent.suffix != ".partial"}
    assert sorted(json.loads(path.read_text())["config"]["seed"] for path in done) == [0, 1, 2, 3]

    again = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    print(again.stdout)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already there") - again.stdout.count("already there after") == 4
    records = {path: json.loads(path.read_text()) for path in tmp_path.glob("out/smoke/*/record.json")}
    assert sorted(record["config"]["seed"] for record in records.values()) == list(range(8))
    assert {record["status"] for record in records.values()} == {"finished"}
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    attempts = {record["config"]["seed"]: record["training"]["attempts"] for record in records.values()}
    assert attempts == {seed: 1 if seed < 4 else 2 for seed in range(8)}
