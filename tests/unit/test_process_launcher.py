"""hydra/launcher=process: arms that fail in every way leave the others alone, and are told apart."""

import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.r2g_process_launcher._seat import Seat


def test_arms_that_raise_exit_die_or_hang_leave_the_others_alone_and_run_again(
    stubs: Any, tmp_path: Path
) -> None:
    words = ["number=range(0,9)", "text='a b, {c}: [d]'", "hydra.launcher.parallel=3"]
    done = stubs.go(*words, "hydra.launcher.minutes=0.15", FAULTS="1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "5 of 9 arms did not finish; the same command again runs those alone" in done.stderr
    rows = stubs.rows(done.stdout)
    expected = {
        "number=4": ("failed", "ValueError: this arm raises"),
        "number=5": ("failed", "this arm exits"),
        "number=6": ("killed", "killed by SIGKILL"),
        "number=7": ("timed out", "this arm wrote its checkpoint"),
        "number=8": ("failed", "exited before its record was finished"),
    }
    assert {title: status for title, (status, _) in rows.items()} == {
        f"number={i}": expected.get(f"number={i}", ("finished", ""))[0] for i in range(9)
    }
    for title, (_, error) in expected.items():
        assert error in rows[title][1]
        assert f"record-{title[-1]}" in rows[title][1]
    assert (tmp_path / "record-0").read_text() == "a b, {c}: [d]"
    assert (tmp_path / "beside-0").read_text() == "2"
    assert (tmp_path / "stopped").exists()
    assert "this arm raises" in (tmp_path / "sweep's dir,1" / "4" / "output.log").read_text()
    assert (tmp_path / "sweep's dir,1" / "4" / ".hydra" / "overrides.yaml").is_file()
    assert not (tmp_path / "alone").exists()

    (tmp_path / "started").unlink()
    again = stubs.go(*words)
    assert again.returncode == 0, again.stderr
    rows = stubs.rows(again.stdout)
    assert [rows[f"number={i}"][0] for i in range(9)] == ["already there"] * 4 + ["finished"] * 5
    assert sorted((tmp_path / "started").read_text().split()) == ["4", "5", "6", "7", "8"]


def test_where_nobody_knows_what_is_done_each_arm_is_started_and_tells(stubs: Any, tmp_path: Path) -> None:
    assert stubs.go("number=0,1").returncode == 0
    again = stubs.go("number=0,1,2", DUMB="1")
    assert again.returncode == 0, again.stderr
    assert "which arms are done can't be told (the answer never came); each is started" in again.stdout
    found = stubs.rows(again.stdout)
    assert [status for status, _ in found.values()] == ["already there", "already there", "finished"]
    assert sorted((tmp_path / "started").read_text().split()) == ["0", "0", "1", "1", "2"]


def test_the_first_line_of_a_log_runs_the_arm_alone(stubs: Any, tmp_path: Path) -> None:
    assert stubs.go("number=1").returncode == 0
    log = (tmp_path / "sweep's dir,1" / "0" / "output.log").read_text()
    (tmp_path / "record-1").unlink()
    command = shlex.split(log.splitlines()[0].removeprefix("$ "))
    assert subprocess.run(command, cwd=tmp_path, env=stubs.env(), check=False).returncode == 0
    assert (tmp_path / "record-1").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_arms_and_no_more_are_started(
    stubs: Any, tmp_path: Path, number: signal.Signals
) -> None:
    process = stubs.begin("number=7,1", "hydra.launcher.parallel=1", FAULTS="1")
    stubs.wait_for("started")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    rows = stubs.rows(stdout)
    assert rows["number=7"][0] == "stopped"
    assert rows["number=1"][0] == "not started"
    assert (tmp_path / "stopped").exists()
    assert (tmp_path / "started").read_text() == "7 "


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own signal at a parent's death")
def test_no_arm_outlives_a_killed_launcher(stubs: Any, tmp_path: Path) -> None:
    process = stubs.begin("number=7,1", FAULTS="1")
    stubs.wait_for("started")
    process.kill()
    process.wait()
    stubs.wait_for("stopped")


def test_an_arm_that_does_not_listen_is_killed_when_its_grace_is_over(stubs: Any) -> None:
    words = ["number=7,1", "hydra.launcher.minutes=0.05", "hydra.launcher.grace_seconds=1"]
    done = stubs.go(*words, FAULTS="1", DEAF="1")
    rows = stubs.rows(done.stdout)
    assert rows["number=7"][0] == "timed out"
    assert "killed by SIGKILL" in rows["number=7"][1]
    assert rows["number=1"][0] == "finished"


def test_what_processes_of_our_own_would_break_is_refused(stubs: Any) -> None:
    done = stubs.go("number=1,2", WORLD_SIZE="2")
    assert done.returncode == 1
    assert "hydra/launcher=basic" in done.stderr
    done = stubs.go("number=1,2", "hydra.sweeper.max_batch_size=1")
    assert done.returncode == 1
    assert "hydra.launcher.parallel" in done.stderr


def test_a_key_that_stands_twice_is_refused(stubs: Any, tmp_path: Path) -> None:
    done = stubs.go("number=1,2", "++number=3")
    assert done.returncode == 1
    assert "number: given twice" in done.stderr
    assert not (tmp_path / "started").exists()


def test_all_mistakes_of_its_settings_are_told_at_once(stubs: Any, tmp_path: Path) -> None:
    wrong = ("parallel=0", "minutes=0", "grace_seconds=-1")
    done = stubs.go("number=1,2", *(f"hydra.launcher.{setting}" for setting in wrong))
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line]
    assert [line.split()[0] for line in said[: len(wrong)]] == [
        "hydra.launcher.minutes",
        "hydra.launcher.grace_seconds",
        "hydra.launcher.parallel",
    ]
    assert not (tmp_path / "started").exists()


def test_each_arm_has_a_gpu_to_itself_and_waits_for_one(stubs: Any, tmp_path: Path) -> None:
    """Three at once on two GPUs: never two on the same, also if another sweep holds one."""
    words = ["hydra.launcher.parallel=3", "hydra.launcher.gpus=[5,7]"]
    other = Seat.free(["5"])
    assert other is not None
    try:
        done = stubs.go("number=20,21,22", *words, TMPDIR=tempfile.gettempdir())
    finally:
        other.leave()
    assert done.returncode == 0, done.stderr
    assert {(tmp_path / f"gpu-{i}").read_text() for i in (20, 21, 22)} == {"7"}
    assert {(tmp_path / f"beside-{i}").read_text() for i in (20, 21, 22)} == {"0"}
    again = stubs.go("number=30,31,32", *words, TMPDIR=tempfile.gettempdir())
    assert again.returncode == 0, again.stderr
    assert {(tmp_path / f"gpu-{i}").read_text() for i in (30, 31, 32)} == {"5", "7"}
