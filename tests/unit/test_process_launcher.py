"""hydra/launcher=process: arms that fail in every way leave the others alone, and are told apart."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.errors import CompactHydraException

from hydra_plugins.r2g_process_launcher.launcher import ProcessLauncher
from r2g.config.paths import config_dir

_STUB = Path(__file__).with_name("launcher_stub")
_SOURCE = Path(__file__).resolve().parents[2] / "src"
_CALL = [sys.executable, "-m", "stub_run", "-m", f"hydra.searchpath=[file://{Path(config_dir()).resolve()}]"]
_CALL += ["hydra.launcher.module=stub_run", "hydra.launcher.grace_seconds=20"]
_CALL += ["hydra.sweep.dir='sweep\\'s dir,1'", "hydra.run.dir=alone"]


def _env(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{_STUB}{os.pathsep}{_SOURCE}", **more}


def _go(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_CALL, *words],
        cwd=folder,
        env=_env(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)


def _table(stdout: str) -> dict[str, tuple[str, str]]:
    """Status and the rest of the line of each arm, by its title."""
    lines = stdout[stdout.index("-  -") :].splitlines()[1:]
    rows = [line.split(maxsplit=2) for line in lines if line.strip()]
    statuses = ("finished", "already there", "failed", "killed", "timed out", "stopped", "not started")
    return {title: (next(s for s in statuses if rest.startswith(s)), rest) for _, title, rest in rows}


def test_arms_that_raise_exit_die_or_hang_leave_the_others_alone_and_run_again(tmp_path: Path) -> None:
    words = ["number=range(0,9)", "text='a b, {c}: [d]'", "hydra.launcher.parallel=3"]
    done = _go(tmp_path, *words, "hydra.launcher.minutes=0.05", FAULTS="1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "5 of 9 arms did not finish; the same command again runs those alone" in done.stderr
    rows = _table(done.stdout)
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
    assert (tmp_path / "stopped").exists()
    assert "this arm raises" in (tmp_path / "sweep's dir,1" / "4" / "output.log").read_text()
    assert (tmp_path / "sweep's dir,1" / "4" / ".hydra" / "overrides.yaml").is_file()
    assert not (tmp_path / "alone").exists()

    again = _go(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    rows = _table(again.stdout)
    assert [rows[f"number={i}"][0] for i in range(9)] == ["already there"] * 4 + ["finished"] * 5


def test_the_first_line_of_a_log_runs_the_arm_alone(tmp_path: Path) -> None:
    assert _go(tmp_path, "number=1").returncode == 0
    log = (tmp_path / "sweep's dir,1" / "0" / "output.log").read_text()
    (tmp_path / "record-1").unlink()
    command = shlex.split(log.splitlines()[0].removeprefix("$ "))
    assert subprocess.run(command, cwd=tmp_path, env=_env(), check=False).returncode == 0
    assert (tmp_path / "record-1").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_arms_and_no_more_are_started(tmp_path: Path, number: signal.Signals) -> None:
    words = [*_CALL, "number=7,1", "hydra.launcher.parallel=1"]
    process = subprocess.Popen(
        words, cwd=tmp_path, env=_env(FAULTS="1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _wait_for(tmp_path / "started")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    rows = _table(stdout)
    assert rows["number=7"][0] == "stopped"
    assert rows["number=1"][0] == "not started"
    assert (tmp_path / "stopped").exists()
    assert (tmp_path / "started").read_text() == "7 "


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own signal at a parent's death")
def test_no_arm_outlives_a_killed_launcher(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*_CALL, "number=7,1"], cwd=tmp_path, env=_env(FAULTS="1"), stdout=subprocess.DEVNULL
    )
    _wait_for(tmp_path / "started")
    process.kill()
    process.wait()
    _wait_for(tmp_path / "stopped")


def test_an_arm_that_does_not_listen_is_killed_when_its_grace_is_over(tmp_path: Path) -> None:
    words = ["number=7,1", "hydra.launcher.minutes=0.05", "hydra.launcher.grace_seconds=1"]
    done = _go(tmp_path, *words, FAULTS="1", DEAF="1")
    rows = _table(done.stdout)
    assert rows["number=7"][0] == "timed out"
    assert "killed by SIGKILL" in rows["number=7"][1]
    assert rows["number=1"][0] == "finished"


def test_what_processes_of_our_own_would_break_is_refused(tmp_path: Path) -> None:
    done = _go(tmp_path, "number=1,2", WORLD_SIZE="2")
    assert done.returncode == 1
    assert "hydra/launcher=basic" in done.stderr
    done = _go(tmp_path, "number=1,2", "hydra.sweeper.max_batch_size=1")
    assert done.returncode == 1
    assert "hydra.launcher.parallel" in done.stderr


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    done = _go(tmp_path, "number=1,2", "++number=3")
    assert done.returncode == 1
    assert "number: given twice" in done.stderr
    assert not (tmp_path / "started").exists()


def test_all_mistakes_of_its_settings_are_told_at_once() -> None:
    # the base class: Hydra's scan imports the plugin anew, and then ArmsFailed is another class
    with pytest.raises(CompactHydraException) as caught:
        ProcessLauncher(module="x", parallel=0, minutes=0, grace_seconds=-1)
    assert all(word in str(caught.value) for word in ("parallel", "minutes", "grace_seconds"))
