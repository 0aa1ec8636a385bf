"""The whole way with the tiny models: run, record, again, killed, on two processes.

What a process of its own is about starts one (the first run, the killed one, several at once); the rest runs here.
"""

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
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from safetensors.torch import load_file

from r2g.config.paths import config_dir
from r2g.core import labels
from r2g.core.outcome import Outcome
from r2g.core.resample import others
from r2g.dashboard import refs
from r2g.dashboard.__main__ import main as dashboard
from r2g.sync import offline
from r2g.sync.__main__ import main as sync
from r2g.there import already

_RUN = [sys.executable, "-m", "r2g.run", "+experiment=smoke", "track=none"]
_SHORT = ["score.controls=false", "train.device=cpu"]
Here = Callable[..., subprocess.CompletedProcess[str]]


def _env(cache: Path) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "R2G_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _go(call: list[str], cache: Path, outputs: Path) -> subprocess.CompletedProcess[str]:
    full = [*call, f"paths.outputs={outputs}"]
    return subprocess.run(
        full, env=_env(cache), capture_output=True, text=True, check=False, cwd=outputs.parent
    )


@pytest.fixture
def here(command: Here, cache: Path) -> Here:
    """The same call without a process of its own."""

    def go(call: list[str], outputs: Path) -> subprocess.CompletedProcess[str]:
        words = [*call[3:], f"paths.outputs={outputs}"]
        return command(call[2], *words, folder=outputs.parent, R2G_CACHE=str(cache))

    return go


def _only(outputs: Path, name: str) -> Path:
    found = list(outputs.glob(f"smoke/*/{name}"))
    assert len(found) == 1, found
    return found[0]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


_TRACKED = [c for c in _RUN if c != "track=none"]


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The outputs of one run with W&B's offline files."""
    outputs = tmp_path_factory.mktemp("tracked") / "out"
    first = _go(_TRACKED, cache, outputs)
    assert first.returncode == 0, first.stderr[-3000:]
    said = [line for line in first.stdout.splitlines() if "[r2g.train]" in line]
    assert ["step 3 of 6: val loss" in said[0], "step 6 of 6: val loss" in said[1]] == [True, True]
    return outputs


def test_a_dashboard_refers_only_to_what_the_run_logged(tracked: Path, tmp_path: Path, capsys) -> None:
    """The spec as it would be sent, against the run's W&B file as W&B reads it."""
    (file,) = offline.attempts(_only(tracked, "record.json").parent)
    logged = offline.read(file).keys
    place = ["--entity", "me", "--project", "r2g", "--spec", str(tmp_path / "spec.json")]
    for given in ([], ["--runs", str(tracked / "smoke")]):
        dashboard([*place, *given])
        asked = refs.references(json.loads((tmp_path / "spec.json").read_text()))
        assert asked.summary
        assert asked.history
        assert asked.config
        assert logged.lacking(asked) == []
    dashboard([*place, "--metric", "meteor"])
    asked = refs.references(json.loads((tmp_path / "spec.json").read_text()))
    assert logged.lacking(asked) == ["summary test/meteor"]
    with pytest.raises(SystemExit) as end:
        sync([str(tracked / "smoke")])
    assert end.value.code == 0
    assert " ready" in capsys.readouterr().out


def test_a_run_leaves_its_whole_record_and_a_second_call_does_nothing(
    tracked: Path, cache: Path, here: Here
) -> None:
    outputs, call = tracked, _TRACKED
    record = json.loads(_only(outputs, "record.json").read_text())
    assert record["status"] == "finished"
    assert (
        record["budget"]["trainable"] == sum(p["trainable"] for p in record["budget"]["parts"].values()) > 0
    )
    assert min(record["budget"]["flops"].values()) > 0
    assert set(record["controls"]) == {"shuffled", "blank", "constant"}
    assert {"bleu_4", "rouge_l", "cider", "label_f1_micro"} <= set(record["scores"])
    assert len(_rows(_only(outputs, "predictions.jsonl"))) == len(_rows(_only(outputs, "scores.jsonl"))) == 12
    table = labels.load(_only(outputs, labels.FILE)).tables["label_f1"]
    how = table.scores["label_f1_macro"]
    assert how.of(table.counts(how).sum(axis=0)[None])[0] == pytest.approx(record["scores"]["label_f1_macro"])
    blind = table.moved(others(12, record["config"]["seed"]))
    control = record["controls"]["shuffled"]["label_f1_macro"]
    assert how.of(blind.counts(how).sum(axis=0)[None])[0] == pytest.approx(control)
    assert sum("train/loss" in row for row in _rows(_only(outputs, "curve.jsonl"))) == 6
    films = sorted(_only(outputs, "thumbnails").iterdir())
    assert [path.name for path in films] == [f"{i:03d}.jpg" for i in range(8)]
    assert all(path.stat().st_size < 10_000 for path in films)
    with Image.open(films[0]) as film:
        assert film.size == (160, 160)
    stamp = _only(outputs, "record.json").stat().st_mtime_ns
    again = here(call, outputs)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout + again.stderr
    assert _only(outputs, "record.json").stat().st_mtime_ns == stamp


def test_a_launcher_is_told_which_jobs_have_their_record(
    tracked: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one with another seed, with a mistake, or whose record is of other data: their own start tells."""
    monkeypatch.setenv("R2G_CACHE", str(cache))
    done = _only(tracked, "record.json").parent
    moved = tmp_path / "out" / "smoke" / done.name
    shutil.copytree(done, moved)
    record = json.loads((moved / "record.json").read_text())
    record["data"]["fingerprint"] = "0" * 12
    (moved / "record.json").write_text(json.dumps(record))

    def job(outputs: Path, *words: str) -> DictConfig:
        with initialize_config_dir(str(Path(config_dir()).resolve()), version_base="1.3"):
            return compose(
                "config", ["+experiment=smoke", f"paths.outputs={outputs}", *words], return_hydra_config=True
            )

    jobs = [job(tracked), job(tracked, "seed=7"), job(tracked, "+sed=7"), job(tmp_path / "out")]
    found = already(jobs)
    assert found[1:] == [None] * 3
    best = json.loads((done / "record.json").read_text())["training"]["best"]
    assert found[0] == Outcome("already there", str(done.absolute()), objective=best)
    assert already([job(tmp_path / "empty")] * 2) == [None] * 2


def test_a_split_is_scored_whole_also_where_validation_looks_at_less(
    tracked: Path, tmp_path: Path, here: Here
) -> None:
    run = shutil.copytree(_only(tracked, "record.json").parent, tmp_path / "run")
    words = [str(run), "split=val", "train.eval_studies=3", "train.device=cpu", "score.controls=false"]
    done = here([*_RUN[:2], "r2g.evaluate", *words, f"paths.cache={tmp_path / 'cache'}"], tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (told,) = run.glob("evaluations/val-*/evaluation.json")
    assert json.loads(told.read_text())["studies"] == 8


def test_killed_and_started_again_ends_bit_for_bit_where_an_uninterrupted_run_does(
    tmp_path: Path, cache: Path, here: Here
) -> None:
    call = [
        *_RUN,
        *_SHORT,
        "tuning=delta",
        "train.steps=14",
        "train.micro_batch=4",
        "train.checkpoint_steps=3",
    ]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert here(call, whole).returncode == 0
    process = subprocess.Popen(
        [*call, f"paths.outputs={broken}"],
        env=_env(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not list(broken.glob("smoke/*.partial/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(broken.glob("smoke/*.partial/checkpoints/step-*")), "killed before or after the training"
    done = here(call, broken)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(_only(broken, "record.json").read_text())["training"]["attempts"] == 2
    one, other = (load_file(_only(o, "trained.safetensors")) for o in (whole, broken))
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    losses = [
        [r["train/loss"] for r in _rows(_only(o, "curve.jsonl")) if "train/loss" in r]
        for o in (whole, broken)
    ]
    assert losses[0] == losses[1]


def test_a_run_from_the_cache_is_the_run_without_it(tmp_path: Path, here: Here) -> None:
    call = [*_RUN, *_SHORT, "train.micro_batch=4"]
    plain, first, second = (tmp_path / name for name in ("plain", "first", "second"))
    for outputs, choice in ((plain, "none"), (first, "default"), (second, "default")):
        done = here([*call, f"cache={choice}", f"paths.cache={tmp_path / 'cache'}"], outputs)
        assert done.returncode == 0, done.stderr[-3000:]
    curves = [
        [r["train/loss"] for r in _rows(_only(o, "curve.jsonl")) if "train/loss" in r]
        for o in (plain, first, second)
    ]
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    assert curves[1] == curves[2]
    records = [json.loads(_only(o, "record.json").read_text()) for o in (plain, first, second)]
    assert records[0]["scores"] == pytest.approx(records[1]["scores"], abs=1e-9)
    assert [r["reuse"]["what"] for r in records] == ["none", "features", "features"]
    assert records[0]["budget"]["flops"] == records[1]["budget"]["flops"] == records[2]["budget"]["flops"]
    assert records[1]["reuse"]["made"] == records[2]["reuse"]["found"] == 68
    assert records[2]["reuse"]["made"] == 0
    assert len({r["id"] for r in records}) == 1


def test_two_processes_train_and_score_as_one(tmp_path: Path, cache: Path, here: Here) -> None:
    settings = [*_SHORT, "train.steps=6", "train.batch_size=7", "train.micro_batch=3"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert here([*_RUN, *settings], one).returncode == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    launch = [*launch, "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    done = _go([*launch, "-m", *_RUN[2:], *settings, "train.processes=2"], cache, two)
    assert done.returncode == 0, done.stderr[-3000:]
    curves = [
        [r["train/loss"] for r in _rows(_only(o, "curve.jsonl")) if "train/loss" in r] for o in (one, two)
    ]
    assert curves[0] == pytest.approx(curves[1], abs=2e-6)
    records = [json.loads(_only(o, "record.json").read_text()) for o in (one, two)]
    assert records[0]["scores"] == pytest.approx(records[1]["scores"], abs=1e-9)
    assert records[1]["device"]["processes"] == 2


def test_a_launch_that_got_fewer_processes_than_asked_for_says_so(tmp_path: Path, here: Here) -> None:
    done = here([*_RUN, *_SHORT, "train.processes=2"], tmp_path / "out")
    assert done.returncode == 1
    assert "asks for 2 processes and 1 came" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_run_leaves_a_record_with_its_error(tmp_path: Path, here: Here) -> None:
    diverges = ["train.learning_rate=1e30", "train.clip_norm=null", "train.steps=12"]
    done = here([*_RUN, *_SHORT, *diverges], tmp_path / "o")
    assert done.returncode == 1
    record = json.loads(_only(tmp_path / "o", "record.json").read_text())
    assert record["status"] == "failed"
    assert record["error"]["type"] == "FloatingPointError"


def _folder(root: Path, word: str) -> list[str]:
    """Films and an annotation file without labels, as overrides."""
    root.mkdir(exist_ok=True)
    content: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for i, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 3):
        Image.new("L", (32, 32), 20 * i).save(root / f"{i}.png")
        report = f"the heart is {word} in case {i} ."
        content[split].append({"id": f"s{i}", "report": report, "image_path": [f"{i}.png"]})
    (root / "annotation.json").write_text(json.dumps(content))
    return ["data=annotation", f"data.annotation={root}/annotation.json", f"data.images={root}"]


# The smoke experiment sizes the phantoms; other data have no such settings.
_OTHER_DATA = [
    *(c for c in _RUN if "experiment" not in c),
    *_SHORT,
    "score=quick",
    "name=smoke",
    "train.evals=1",
]
_OTHER_DATA += ["train.batch_size=2", "train.micro_batch=2", "train.steps=4", "train.warmup_steps=1"]
_OTHER_DATA += ["decode.max_tokens=4", "train.target_loss=null", "train.checkpoint_steps=1"]
_BY_LOSS = "train.select=[{score: loss, weight: -1.0}]"


def test_data_that_is_not_there_says_where_to_get_it_and_leaves_a_record(tmp_path: Path, here: Here) -> None:
    done = here([*_OTHER_DATA, "data=iu_xray", f"data.root={tmp_path}/none"], tmp_path / "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "https://openi.nlm.nih.gov" in done.stderr
    assert "R2G_IU_XRAY" in done.stderr
    record = json.loads(_only(tmp_path / "out", "record.json").read_text())
    assert record["status"] == "failed"
    assert record["error"]["type"] == "FileNotFoundError"


@pytest.mark.slow
def test_a_selection_by_what_the_data_can_not_give_is_refused_before_the_first_step(
    tmp_path: Path, here: Here
) -> None:
    call = [*_OTHER_DATA, *_folder(tmp_path / "films", "large")]
    done = here(call, tmp_path / "out")
    assert done.returncode == 1
    assert "label_f1: 2 of 2 studies have no known labels" in done.stderr
    assert "train.select=[{score: loss, weight: -1.0}]" in done.stderr
    assert not list((tmp_path / "out").rglob("curve.jsonl"))
    done = here([*call, _BY_LOSS], tmp_path / "out2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "absent: label_f1: 3 of 3 studies have no known labels" in done.stdout
    assert "of 3" in next(line for line in done.stdout.splitlines() if line.startswith("distinct reports:"))


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, here: Here) -> None:
    call = [*_OTHER_DATA, *_folder(tmp_path / "films", "large"), _BY_LOSS, "train.learning_rate=1e30"]
    assert here([*call, "train.clip_norm=null", "train.steps=40"], tmp_path / "out").returncode == 1
    before = _only(tmp_path / "out", "record.json").read_text()
    assert (_only(tmp_path / "out", "record.json").parent / "checkpoints").is_dir()
    _folder(tmp_path / "films", "small")
    done = here([*call, "train.clip_norm=null", "train.steps=40"], tmp_path / "out")
    assert done.returncode == 1
    assert "was begun on other data" in done.stderr
    assert _only(tmp_path / "out", "record.json").read_text() == before
