"""hydra/launcher=joblib, submitit, ray: what they share, without workers; and joblib's, with stubs for arms."""

import inspect
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf

from hydra_plugins.r2g_gang_launcher._settings import gang_words, said_in, search_of
from hydra_plugins.r2g_gang_launcher.launcher import GangLauncher
from hydra_plugins.r2g_process_launcher.arms import Arm, End
from hydra_plugins.r2g_worker_launcher import launcher as worker
from hydra_plugins.r2g_worker_launcher._task import Piece
from r2g.config.paths import config_dir
from r2g.core.outcome import Outcome

_FILES = sorted(Path(config_dir(), "hydra", "launcher").glob("*.yaml"))
_BY_PLUGIN = [path for path in _FILES if "plugin" in yaml.safe_load(path.read_text())]


_SEARCH = {"eta": 3, "metric": "select", "rungs": [1, 2], "keep": 2}


def _launcher(**settings: Any) -> worker.WorkerLauncher:
    plain = {"module": "r2g.run", "minutes": None, "grace_seconds": 1, "gang": 2}
    return worker.WorkerLauncher(
        **{"plugin": "joblib", **plain, "memory_gb": None, "halving": None, **settings}
    )


def _set_up(launcher: Any) -> None:
    """As far as what is refused before anything of the hand-over is looked at."""
    launcher.setup(hydra_context=None, task_function=None, config=None)


def _arm(number: int, folder: Path) -> Arm:
    return Arm(number, f"seed={number}", ["true"], folder / str(number))


@pytest.mark.parametrize("wrong", [0, "x", 1.5])
def test_a_pool_of_no_size_is_refused_in_our_words(wrong: object) -> None:
    with pytest.raises(
        CompactHydraException, match="hydra.launcher.n_jobs must be a whole number, and not 0, got"
    ):
        _set_up(_launcher(n_jobs=wrong))


def test_each_plugin_has_a_file_of_its_name() -> None:
    assert {path.stem for path in _BY_PLUGIN} == set(worker._PLUGINS)


@pytest.mark.parametrize("path", _BY_PLUGIN, ids=lambda path: path.stem)
def test_a_file_names_every_setting_of_ours(path: Path) -> None:
    stated = yaml.safe_load(path.read_text())
    taken = inspect.signature(worker.WorkerLauncher).parameters.values()
    assert {p.name for p in taken if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD} <= set(
        stated
    )
    assert stated["plugin"] == path.stem


@pytest.mark.parametrize("name", sorted(worker._PLUGINS))
def test_a_plugin_that_is_not_installed_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = f"hydra_plugins.hydra_{name}_launcher"
    for module in [m for m in sys.modules if m.startswith(absent) or m.endswith(("._slurm", "._ray"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(
        CompactHydraException, match=rf"hydra/launcher={name} .* pip install -e '.\[{name}\]'$"
    ):
        worker._class_of(name)


def test_all_mistakes_of_its_settings_are_told_at_once() -> None:
    with pytest.raises(CompactHydraException) as caught:
        _set_up(
            _launcher(
                plugin="dask",
                minutes=0,
                grace_seconds=-1,
                gang=0,
                memory_gb=-1,
                halving={**_SEARCH, "eta": 1, "keep": 0},
            )
        )
    words = ("dask", "minutes", "grace_seconds", "gang must", "memory_gb", "eta must", "keep must")
    assert len(str(caught.value).splitlines()) == len(words)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"memory_gb": 0}, "hydra.launcher.memory_gb must be above 0 or null, got 0"),
        ({"halving": {**_SEARCH, "eta": 1}}, "hydra.launcher.halving: eta must be above 1, got 1.0"),
        ({"halving": {**_SEARCH, "rungs": [2, 1]}}, "hydra.launcher.halving: rungs must rise and start at 1"),
        ({"halving": {**_SEARCH, "metrik": "loss"}}, "hydra.launcher.halving: .* argument 'metrik'"),
    ],
    ids=["memory", "eta", "rungs", "key"],
)
def test_a_gang_on_a_worker_refuses_what_a_gang_here_refuses(settings: dict[str, Any], said: str) -> None:
    told = []
    here = {"max_arms": 2, "memory_gb": None, "halving": None, **settings}
    for make in (lambda: _launcher(**settings), lambda: GangLauncher(**here)):
        with pytest.raises(CompactHydraException, match=said) as caught:
            _set_up(make())
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.mark.parametrize("settings", [{"memory_gb": 8.0}, {"halving": _SEARCH}], ids=["memory", "halving"])
def test_a_gang_s_settings_without_gangs_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(CompactHydraException, match=r"say how many arms one has with hydra.launcher.gang=N"):
        _set_up(_launcher(gang=None, **settings))


def test_a_gang_s_words_say_what_was_set() -> None:
    words = gang_words(4, 13.5, search_of({**_SEARCH, "metric": "label_f1_micro"}))
    given = OverridesParser.create().parse_overrides(words)
    told = {override.key_or_group: override.value() for override in given}
    assert told["hydra/launcher"] == "gang"
    assert told["hydra.launcher.max_arms"] == 4
    assert told["hydra.launcher.memory_gb"] == 13.5
    assert search_of(told["hydra.launcher.halving"]) == search_of({**_SEARCH, "metric": "label_f1_micro"})
    assert gang_words(4, None, None) == ["hydra/launcher=gang", "hydra.launcher.max_arms=4"]


def test_a_search_on_several_workers_is_told_and_what_they_say_of_it_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    launcher = _launcher(gang=2, halving=_SEARCH)
    arms = [_arm(i, tmp_path) for i in range(3)]
    launcher.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    said: list[str] = []

    def work(*_: Any) -> list[JobReturn]:
        said.append(caplog.text)
        said_in(tmp_path / ".launcher" / "gang-0").write_text("1 runs change the llm\n")
        left = [[End("finished"), End("halved")], [End("finished")]]
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=ends) for ends in left]

    monkeypatch.setattr(launcher, "arms", lambda *_: ([], arms))
    monkeypatch.setattr(launcher, "start", lambda: ["python"])
    monkeypatch.setattr(launcher, "kept_words", list)
    monkeypatch.setattr(launcher, "_hand_over", lambda *_: None)
    monkeypatch.setattr(launcher, "_by_plugin", work)
    monkeypatch.setattr(launcher, "concluded", lambda *given: list(given[3].values()))
    stale = said_in(tmp_path / ".launcher" / "gang-2")
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier sweep\n")
    with caplog.at_level(logging.WARNING):
        ends: Any = launcher.launch([[f"seed={i}"] for i in range(3)], 0)
    assert [end.good for end in ends] == [True] * 3
    assert "the search is split into 2 gangs" in said[0]
    assert "Raise hydra.launcher.gang and memory_gb" in said[0]
    assert f"{tmp_path / '.launcher' / 'gang-0'}: 1 runs change the llm" in caplog.text
    assert "of an earlier sweep" not in caplog.text


def test_a_worker_that_is_lost_is_told_by_what_its_arms_left(tmp_path: Path) -> None:
    """The worker died, not its arms: one had finished, one was at work, one had not begun."""
    piece = Piece(_arm(9, tmp_path), tuple(_arm(i, tmp_path) for i in range(3)))
    Outcome("finished", "record-0", objective=0.5).write(tmp_path / "0")
    Outcome("running", "record-1").write(tmp_path / "1")
    lost = JobReturn(status=JobStatus.FAILED, _return_value=RuntimeError("the worker died\nand so on"))
    done, running, waiting = worker._ends(piece, lost, stopping=False)
    assert (done.status, done.record, done.objective) == ("finished", "record-0", 0.5)
    assert (running.status, running.record) == ("killed", "record-1")
    assert (waiting.status, waiting.error) == ("killed", "RuntimeError: the worker died")
    never = Piece(_arm(5, tmp_path), (_arm(5, tmp_path),))
    assert [end.status for end in worker._ends(never, lost, stopping=True)] == ["not started"]


def test_an_arm_that_its_gang_forgot_is_not_taken_for_finished(tmp_path: Path) -> None:
    piece = Piece(_arm(9, tmp_path), (_arm(0, tmp_path), _arm(1, tmp_path)))
    Outcome("already there", "record-0").write(tmp_path / "0")
    known, forgotten = piece.ends(End("finished", 3.0))
    assert (known.status, known.seconds) == ("already there", 3.0)
    assert (forgotten.status, forgotten.good) == ("failed", False)


def test_joblib_tells_arms_apart_and_the_second_call_runs_the_missing(stubs: Any, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the joblib extra")
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "number=0,4,6"]
    done = stubs.go(*words, FAULTS="1")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "2 of 3 arms did not finish; the same command again runs those alone" in done.stderr
    found = stubs.rows(done.stdout)
    assert [status for status, _ in found.values()] == ["finished", "failed", "killed"]
    assert "ValueError: this arm raises" in found["number=4"][1]
    assert "killed by SIGKILL" in found["number=6"][1]
    assert (tmp_path / "beside-0").read_text() == "1"
    (tmp_path / "started").unlink()
    again = stubs.go(*words)
    assert again.returncode == 0, again.stderr
    assert [status for status, _ in stubs.rows(again.stdout).values()] == [
        "already there",
        "finished",
        "finished",
    ]
    assert sorted((tmp_path / "started").read_text().split()) == ["4", "6"]
    (tmp_path / "started").unlink()
    last = stubs.go(*words)
    assert last.returncode == 0, last.stderr
    assert [status for status, _ in stubs.rows(last.stdout).values()] == ["already there"] * 3
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_the_arms_of_joblib_in_good_order(
    stubs: Any, tmp_path: Path, number: signal.Signals
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the joblib extra")
    process = stubs.begin("hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "number=7,1", FAULTS="1")
    stubs.wait_for("started")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    found = stubs.rows(stdout)
    assert (found["number=7"][0], found["number=1"][0]) == ("stopped", "not started")
    assert (tmp_path / "stopped").exists()


def test_a_gang_s_jobs_are_listed_for_one_process(tmp_path: Path) -> None:
    """Five jobs, two a gang: the last gang is one arm; each line runs the file's jobs, whatever the sweep says."""
    launcher = _launcher(gang=2)
    launcher.start = lambda: ["python", "-m", "r2g.run"]  # type: ignore[method-assign]
    launcher.kept_words = lambda: ["hydra.verbose=true"]  # type: ignore[method-assign]
    jobs = [[f"seed={i}", "projector=mlp"] for i in range(5)]
    arms = [_arm(i + 10, tmp_path) for i in range(5)]
    pieces = launcher._pieces(jobs, arms, tmp_path)
    assert [[arm.number for arm in piece.members] for piece in pieces] == [[10, 11], [12, 13], [14]]
    listed: list[dict[str, Any]] = json.loads((tmp_path / "gang-12" / "jobs.json").read_text())
    assert listed == [
        {"number": 12, "folder": str(tmp_path / "12"), "words": ["seed=2", "projector=mlp"]},
        {"number": 13, "folder": str(tmp_path / "13"), "words": ["seed=3", "projector=mlp"]},
    ]
    words = pieces[1].process.command
    assert "hydra.verbose=true" in words
    assert "hydra/launcher=gang" in words
    assert f"hydra.launcher.jobs='{tmp_path / 'gang-12' / 'jobs.json'}'" in words


def test_a_job_of_an_array_goes_by_its_own_name() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the submitit extra")
    from hydra_plugins.r2g_worker_launcher._slurm import own_name

    assert own_name({"SLURM_JOB_ID": "7"}) == "7"
    assert own_name({"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}) == "7_3"
