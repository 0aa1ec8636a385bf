"""Trackers: what an offline W&B run holds and doesn't, what a failing one may not do, others by name."""

import json
import logging
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from wandb.util import get_core_path

from r2g.core import keys
from r2g.core.slots import TRACKERS
from r2g.trackers._guard import Backend, Guarded
from r2g.trackers.base import RunIdentity
from r2g.trackers.none import NoTracker
from r2g.trackers.stock import StockTracker
from r2g.trackers.tensorboard import TensorBoard
from r2g.trackers.wandb import Mode, Wandb

SECRET = "zebra shaped opacity"


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def identity(folder: Path, name: str = "arm", run: str = "abc123") -> RunIdentity:
    return RunIdentity(run, name, "the_group", ("one", "two"), "train", str(folder))


def wandb(**changes) -> Wandb:
    settings = {"mode": Mode.offline, "project": "r2g", "entity": None, "patience": 60.0}
    return Wandb(**{**settings, "send_text": False, "send_images": False, **changes})


def entry(step: int, loss: float) -> dict[str, float]:
    axes = {keys.STEP: step, keys.SAMPLES: 8 * step, keys.TOKENS: 100 * step, keys.SECONDS: 0.5 * step}
    return {**axes, keys.TRAIN_LOSS: loss}


def inspect(folder: Path, *options: str) -> str:
    """What W&B's own reader finds in the only run of a folder."""
    (log,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    # What `wandb leet inspect` starts once its Python has come up, which takes seconds each time.
    call = [get_core_path(), "leet", "inspect", "--no-observability", *options, "--json"]
    call += ["--run-file", str(log), str(folder / "wandb")]
    return subprocess.run(call, capture_output=True, text=True, check=True, timeout=60).stdout


def history(folder: Path) -> list[dict[str, float]]:
    records = [json.loads(line) for line in inspect(folder).splitlines()]
    return [record for record in records if record["type"] == "history"]


def test_an_offline_wandb_run_holds_the_numbers_and_no_report(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    accelerator = Accelerator(cpu=True, log_with=wandb().build(identity(tmp_path / "run")))
    accelerator.init_trackers("ignored", config={"encoder": {"kind": "tiny"}})
    for step in (1, 2, 3):
        accelerator.log(entry(step, 3.0 / step), step=step)
    (run,) = accelerator.trackers
    run.log_text("reports", ["id", "report"], [["1", SECRET]])
    run.log_images("films", [object()])
    run.summary({keys.budget("projector", "trainable"): 4206592, keys.BUDGET_TRAINABLE_PERCENT: 0.0616})
    run.summary({keys.test("bleu_4"): 0.134, keys.STEPS_TO_TARGET: 7, keys.CENSORED: False})
    accelerator.end_training()
    found = json.loads(inspect(tmp_path / "run", "--summary"))
    assert (found["run_id"], found["name"], found["project"]) == ("abc123", "arm", "r2g")
    assert found["tags"] == ["one", "two"]
    assert found["state"] == "finished"
    assert found["config"] == {"encoder": {"kind": "tiny"}}
    expected = {
        "train/loss": 1.0,
        "by_samples/train/loss": 1.0,
        "by_seconds/train/loss": 1.0,
        "step": 3,
        "samples": 24,
        "tokens": 300,
        "seconds": 1.5,
        "budget/projector/trainable": 4206592,
        "budget/trainable_percent": 0.0616,
        "test/bleu_4": 0.134,
        "convergence/steps_to_target": 7,
        "convergence/censored": False,
    }
    assert {name: found["summary"][name] for name in expected} == pytest.approx(expected)
    assert len(history(tmp_path / "run")) == 3
    (run_record,) = [r["run"] for r in map(json.loads, inspect(tmp_path / "run").splitlines()) if "run" in r]
    assert (run_record["run_group"], run_record["job_type"]) == ("the_group", "train")
    assert socket.gethostname() not in run_record.values()
    files = [f for f in (tmp_path / "run").rglob("*") if f.is_file()]
    (data,) = [f.read_bytes() for f in files if f.suffix == ".wandb"]
    for private in (SECRET, str(Path.cwd()), str(Path.home()), "report"):
        assert private.encode() not in data, private
    assert not {"requirements.txt", "output.log", "wandb-metadata.json"} & {f.name for f in files}


def test_text_goes_to_wandb_only_when_told(tmp_path: Path) -> None:
    run = wandb(send_text=True).build(identity(tmp_path))
    run.start()
    run.log_text("reports", ["id", "report"], [["1", SECRET]])
    run.finish()
    tables = [f.read_text() for f in tmp_path.rglob("*.table.json")]
    assert len(tables) == 1
    assert SECRET in tables[0]


def test_two_wandb_runs_in_one_process_stay_apart_and_a_failed_one_says_so(tmp_path: Path) -> None:
    runs = [wandb().build(identity(tmp_path / name, name, name)) for name in ("first", "second")]
    for run in runs:
        run.start()
    for step in (1, 2):
        for i, run in enumerate(runs):
            run.log(entry(step, float(10 * i + step)), step=step)
    runs[0].finish()
    runs[1].finish(failed=True)
    first, second = (json.loads(inspect(tmp_path / name, "--summary")) for name in ("first", "second"))
    assert (first["summary"]["train/loss"], second["summary"]["train/loss"]) == (2.0, 12.0)
    assert (first["exit_code"], second["exit_code"]) == (0, 1)


def test_after_a_resume_one_wandb_run_holds_the_whole_curve(tmp_path: Path) -> None:
    curve = [entry(step, 1.0 / step) for step in (1, 2, 3)]
    killed = wandb().build(identity(tmp_path))
    killed.start()
    for point in curve:
        killed.log(point, step=int(point[keys.STEP]))
    killed.finish(failed=True)
    (old,) = (tmp_path / "wandb").glob("offline-run-*")
    old.rename(old.with_name("offline-run-20200101_000000-abc123"))
    resumed = wandb().build(identity(tmp_path))
    resumed.start()
    resumed.replay(curve[:2])
    resumed.log(entry(3, 0.3), step=3)
    resumed.finish()
    assert len(history(tmp_path)) == 3
    assert json.loads(inspect(tmp_path, "--summary"))["summary"]["train/loss"] == 0.3


class _Broken(Backend):
    name = "broken"

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        raise ConnectionError("no server")

    def log(self, values, step=None, **_) -> None:
        raise OSError("disk full")

    def finish(self) -> None:
        raise RuntimeError("still nothing")


def test_a_failing_tracker_warns_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    accelerator = Accelerator(cpu=True, log_with=Guarded(_Broken()))
    with caplog.at_level(logging.WARNING):
        accelerator.init_trackers("run", config={"a": 1})
        accelerator.log({keys.TRAIN_LOSS: 1.0}, step=1)
        accelerator.end_training()
    (record,) = [r for r in caplog.records if r.name.startswith("r2g")]
    assert "'broken' failed to start" in record.getMessage()
    assert "ConnectionError: no server" in record.getMessage()


def test_an_interrupt_is_not_held_back() -> None:
    class Interrupted(_Broken):
        def start(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guarded(Interrupted()).start()


@pytest.mark.parametrize("value", [SECRET, [1.0], {"a": 1}])
def test_only_numbers_are_logged(value: object) -> None:
    run = NoTracker().build(identity(Path("unused")))
    for take in (run.log, run.summary, lambda values: run.replay([values])):
        with pytest.raises(TypeError, match="numbers only"):
            take({"report": value})


def test_tensorboard_by_name(tmp_path: Path) -> None:
    run = TRACKERS.get("tensorboard")().build(identity(tmp_path))
    assert isinstance(TensorBoard(), TRACKERS.get("tensorboard"))
    accelerator = Accelerator(cpu=True, log_with=run)
    accelerator.init_trackers("ignored", config={"encoder": {"kind": "tiny", "none": None}, "list": [1, 2]})
    accelerator.log({**entry(1, 0.5), "val/bleu_4": None}, step=1)
    run.summary({keys.test("bleu_4"): 0.25, keys.STEPS_TO_TARGET: None})
    accelerator.end_training()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard" / "abc123"))
    events.Reload()
    assert events.Scalars(keys.TRAIN_LOSS)[0].value == 0.5
    assert events.Scalars("test/bleu_4")[0].value == 0.25
    assert keys.STEPS_TO_TARGET not in events.Tags()["scalars"]


def test_other_trackers_are_known_by_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'mlflow'"):
        StockTracker(logger="mlfow")
    with pytest.raises(ValueError, match="unknown logger 'wandb'"):
        StockTracker(logger="wandb")


def test_a_tracker_that_is_not_installed_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from r2g.trackers import _stock

    monkeypatch.setattr(_stock, "get_available_trackers", list)
    with pytest.raises(RuntimeError, match="'tensorboard' is not installed"):
        TensorBoard().build(identity(Path("unused")))


def test_no_tracking_takes_everything() -> None:
    run = NoTracker().build(identity(Path("unused")))
    accelerator = Accelerator(cpu=True, log_with=run)
    accelerator.init_trackers("ignored", config={"a": {"b": 1}})
    accelerator.log({keys.TRAIN_LOSS: 1.0}, step=1)
    run.replay([entry(1, 1.0)])
    run.log_text("reports", ["report"], [[SECRET]])
    accelerator.end_training()
    assert run.tracker is None


def test_wandb_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="patience"):
        wandb(patience=0.0)
