"""hydra/launcher=submitit on a SLURM that is there: arms that die, are preempted, requeued, or cancelled."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_QUICK = ["hydra/launcher=submitit", "hydra.launcher.poll_seconds=1", "hydra.launcher.cpus_per_task=1"]
_PIPE = subprocess.PIPE
_ONE = "hydra.launcher.array_parallelism=1"


def _slurm_answers() -> bool:
    """A controller, and a node that takes jobs; installed commands alone run nothing."""
    if shutil.which("sbatch") is None:
        return False
    try:
        told = subprocess.run(
            ["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, check=False, timeout=20
        )
    except subprocess.TimeoutExpired:
        return False
    return told.returncode == 0 and any(state in told.stdout for state in ("idle", "mix", "alloc"))


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not _slurm_answers(), reason="needs a SLURM cluster: sbatch, and a controller that answers"
    ),
]


@pytest.fixture(autouse=True)
def _plugin() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the submitit extra")


def _until(found: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)
    return value


def _arm_process(word: str) -> int | None:
    """The process of the arm on whose command line this word stands."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:  # it ended meanwhile
            continue
        if word in words and "hydra.mode=RUN" in words:
            return int(path.parent.name)
    return None


def _begun(out: Path, seed: int) -> bool:
    """Has the arm of this seed written a checkpoint?"""
    found = out.glob("smoke/*.partial/checkpoints/step-*")
    records = [json.loads((path.parents[1] / "record.json").read_text()) for path in found]
    return any(told["config"]["seed"] == seed for told in records)


def _job(folder: Path, number: int) -> str:
    """SLURM's name for job `number` of the array whose logs are below."""
    logs = _until(lambda: list(folder.glob(f".submitit/*_{number}")))
    return str(logs[0].name)


def test_an_arm_that_is_preempted_finishes_from_its_checkpoint_and_a_killed_one_is_told(
    stubs: Any, tmp_path: Path
) -> None:
    out, sweep = tmp_path / "out", tmp_path / "sweep"
    env = {**os.environ, "R2G_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "r2g.run", "-m", "+experiment=smoke", "seed=0,1,2,3", "track=none", *_QUICK]
    call += ["train.steps=60", "train.checkpoint_steps=1", "score.controls=false", "train.device=cpu"]
    call += [f"paths.outputs={out}", f"hydra.sweep.dir={sweep}"]
    process = stubs.started(subprocess.Popen(call, env=env, stdout=_PIPE, stderr=_PIPE, text=True))
    begun = _until(
        lambda: list(out.glob("smoke/*.partial/checkpoints/step-*")) and sorted(out.glob("smoke/*.partial"))
    )
    preempted = json.loads((begun[0] / "record.json").read_text())["config"]["seed"]
    # scancel goes on asking while the job is on its way back into the queue, and then says that it could not
    asking = subprocess.Popen(["scancel", "--signal=TERM", _job(sweep, preempted)], stderr=subprocess.DEVNULL)
    doomed, last = (2, 3) if preempted < 2 else (0, 3)
    os.kill(_until(lambda: _arm_process(f"seed={doomed}")), signal.SIGKILL)
    _until(lambda: _begun(out, last))  # the array's last job has the array's own id
    late = subprocess.Popen(["scancel", "--signal=TERM", _job(sweep, last)], stderr=subprocess.DEVNULL)
    stdout, stderr = process.communicate(timeout=1200)
    for asked in (asking, late):
        asked.wait()
    print(stdout)
    assert process.returncode == 1, stderr
    assert "1 of 4 arms did not finish" in stderr
    table = {line.split()[1]: line for line in stdout[stdout.index("-  -") :].splitlines()[1:] if line}
    assert "killed by SIGKILL" in table.pop(f"seed={doomed}")
    assert all("finished" in line for line in table.values())
    records = [json.loads(path.read_text()) for path in out.glob("smoke/*/record.json")]
    attempts = {r["config"]["seed"]: r["training"]["attempts"] for r in records if r["status"] == "finished"}
    expected = {seed: 2 if seed in (preempted, last) else 1 for seed in range(4) if seed != doomed}
    assert attempts == expected

    again = subprocess.run(call, env=env, capture_output=True, text=True, check=False, timeout=1200)
    assert again.returncode == 0, again.stderr
    assert again.stdout[again.stdout.index("\n-  -") :].count("already there") == 3


def test_a_job_that_dies_with_its_arm_or_is_requeued_by_slurm_itself(stubs: Any, tmp_path: Path) -> None:
    """All of a job's processes killed, as by a node's failure; and a requeue that isn't ours."""
    sweep = tmp_path / "sweep"
    process = stubs.begin(*_QUICK, "hydra.sweep.dir=sweep", "number=7,107,1", FAULTS="1")
    stubs.wait_for("at-work-7", 120)
    subprocess.run(["scancel", "--signal=KILL", "--full", _job(sweep, 0)], check=True)
    stubs.wait_for("hung-once", 120)
    subprocess.run(["scontrol", "requeue", _job(sweep, 1)], check=True)
    stdout, stderr = process.communicate(timeout=600)
    found = stubs.rows(stdout)
    assert process.returncode == 1, stderr
    assert found["number=7"][0] == "killed"
    assert "ended without a result" in found["number=7"][1]
    assert found["number=107"][0] == "finished"
    assert found["number=1"][0] == "finished"


def test_a_job_that_is_cancelled_stays_so_and_the_launcher_s_end_is_theirs(
    stubs: Any, tmp_path: Path
) -> None:
    process = stubs.begin(*_QUICK, "hydra.sweep.dir=sweep", _ONE, "number=7,207,1", FAULTS="1")
    stubs.wait_for("at-work-7", 120)
    subprocess.run(["scancel", _job(tmp_path / "sweep", 0)], check=True)
    stubs.wait_for("at-work-207", 120)  # and not the first one anew
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    found = stubs.rows(stdout)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert found["number=7"][0] == "stopped"
    assert "ended without a result" in found["number=7"][1]
    assert (found["number=207"][0], found["number=1"][0]) == ("stopped", "not started")


def test_what_sbatch_refuses_is_told(stubs: Any) -> None:
    done = stubs.go(*_QUICK, "hydra.sweep.dir=sweep", "hydra.launcher.partition=nowhere", "number=1,2")
    assert done.returncode == 1
    assert "SLURM did not take the jobs" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gang_a_job(tmp_path: Path) -> None:
    env = {**os.environ, "R2G_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "r2g.run", "-m", "+experiment=smoke", "seed=0,1,2,3", "track=none", *_QUICK]
    call += [
        "hydra.launcher.gang=2",
        "score.controls=false",
        "train.device=cpu",
        f"paths.outputs={tmp_path / 'out'}",
    ]
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout[done.stdout.index("\n-  -") :].count("finished") == 4
    records = [json.loads(path.read_text()) for path in tmp_path.glob("out/smoke/*/record.json")]
    assert [r["ran"] for r in records] == [{"how": "gang", "arms": 2}] * 4
