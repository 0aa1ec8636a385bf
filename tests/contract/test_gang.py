"""What makes gangs usable: an arm's result in a gang is that of its solo run."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache as kept
from pathlib import Path
from typing import Any

import pytest
import torch

from r2g import gang, record, step, train
from r2g.config.resolve import to_tree
from r2g.config.schema import RunConfig
from r2g.core import memory
from r2g.halving import Halving

Small = Callable[..., RunConfig]
Alone = Callable[[Sequence[str]], Path]
_STEPS = 50
_BASE = (
    "data.train=24",
    "data.val=4",
    "data.test=6",
    "data.size=32",
    f"train.steps={_STEPS}",
    "train.batch_size=4",
    "train.micro_batch=2",
    "train.warmup_steps=2",
    "train.evals=2",
    "train.max_tokens=24",
    "train.select=[{score: rouge_l, weight: 1.0}]",
    "train.device=cpu",
    "score=quick",
    "decode.max_tokens=8",
    "decode.batch_size=3",
)
# What sets the arms of the mixed gang apart: projectors (one with fewer tokens), seeds, tuning modes, rates, sizes.
_ARMS = (
    ("seed=0",),
    ("seed=1", "train.learning_rate=5.0e-4"),
    ("projector=mlp", "projector.hidden=24"),
    ("projector=qformer_lite", "projector.queries=3", "projector.width=32", "projector.heads=2"),
    ("tuning=delta",),
    ("tuning=deep", "train.learning_rate=3.0e-4"),
    ("tuning=soft_prompt", "tuning.adapters.prompt.length=3"),
    ("train.batch_size=6", "train.steps=40", "train.clip_norm=null"),
)
# Their weights are those of the first arm; what they make of a film isn't.
_VIEWERS = (("encoder.select=pooled",), ("encoder.size=64",))
_LLM = ("tuning=llm_lora",)
# A frozen encoder whose drop path is on, as in the published code, and the same at rest.
_QUIET = ("seed=2", "projector=mlp")
_NOISY = (*_QUIET, "tuning.frozen_mode=train")
_SHORT = ("train.steps=8",)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(small: Small, cache: Path) -> Callable[..., list[RunConfig]]:
    """The configs of some arms, writing to a folder."""

    def configs(outputs: Path, arms: Sequence[Sequence[str]], *more: str) -> list[RunConfig]:
        where = (f"paths.outputs={outputs}", f"paths.cache={cache}")
        return [small(*_BASE, *arm, *where, *more) for arm in arms]

    return configs


@pytest.fixture(scope="module")
def alone(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The record of an arm's solo run, made when it is first asked for."""
    outputs = tmp_path_factory.mktemp("alone")

    @kept
    def record_of(arm: Sequence[str]) -> Path:
        return gang.execute(*made(outputs, [arm]), {})

    return record_of


def _ganged(configs: Sequence[RunConfig]) -> list[gang.End]:
    return gang.execute_gang([gang.Job(config, {}) for config in configs])


def _losses(folder: Path) -> list[float]:
    return [row["train/loss"] for row in record.read_lines(folder / "curve.jsonl") if "train/loss" in row]


def _same(one: Path, other: Path) -> None:
    assert len(_losses(one)) == len(_losses(other))
    assert _losses(one) == pytest.approx(_losses(other), abs=1e-4)
    scores = [record.read(folder)["scores"] for folder in (one, other)]
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
    texts = [[p["hypothesis"] for p in record.read_lines(f / "predictions.jsonl")] for f in (one, other)]
    assert sum(a == b for a, b in zip(*texts, strict=True)) >= len(texts[0]) - 1  # a tie may fall either way
    controls = [record.read(folder)["controls"] for folder in (one, other)]
    assert controls[0].keys() == controls[1].keys() == {"shuffled", "blank", "constant"}
    assert controls[0]["blank"] == pytest.approx(controls[1]["blank"], abs=0.01)


@pytest.mark.slow
def test_an_arm_in_a_gang_ends_where_its_solo_run_does(made: Any, alone: Alone, tmp_path: Path) -> None:
    arms = [*_ARMS, _NOISY, _LLM]
    ends = _ganged(made(tmp_path, arms))
    assert [end.status for end in ends] == ["finished"] * 10
    solos = [alone(arm) for arm in arms]
    for end, solo in zip(ends, solos, strict=True):
        assert end.record.name == solo.name
        _same(end.record, solo)
    ran = [record.read(end.record)["ran"] for end in ends]
    assert ran == [{"how": "gang", "arms": 9}] * 9 + [{"how": "turn", "arms": 1}]
    assert record.read(solos[0])["ran"] == {"how": "solo"}
    assert _losses(ends[9].record) == _losses(solos[9])
    assert _losses(solos[8]) != pytest.approx(_losses(alone(_QUIET)), abs=1e-3)
    again = _ganged(made(tmp_path, arms))
    assert [end.status for end in again] == ["already there"] * 10


@pytest.mark.usefixtures("untraced")
def test_an_arm_that_breaks_leaves_the_gang_and_the_others_go_on(
    made: Any, alone: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = step._read

    def read(turn: Any, i: int, accelerator: Any) -> Any:
        if turn.arm.config.seed == 7 and turn.arm.progress.step == 3:
            raise RuntimeError("out of luck")
        return real(turn, i, accelerator)

    monkeypatch.setattr(step, "_read", read)
    diverges = ("train.learning_rate=1.0e30", "train.clip_norm=null")
    first, last = ((*arm, *_SHORT) for arm in _ARMS[:2])
    ends = _ganged(made(tmp_path, [first, ("seed=7",), diverges, last]))
    assert [end.status for end in ends] == ["finished", "failed", "failed", "finished"]
    _same(ends[0].record, alone(first))
    _same(ends[3].record, alone(last))
    errors = [record.read(end.record)["error"] for end in ends[1:3]]
    assert [error["type"] for error in errors] == ["RuntimeError", "FloatingPointError"]
    assert "out of luck" in str(ends[1].error)


@pytest.mark.slow
def test_arms_with_one_encoder_s_weights_each_see_films_their_own_way(
    made: Any, alone: Alone, tmp_path: Path
) -> None:
    arms = [(*arm, *_SHORT) for arm in (_ARMS[0], *_VIEWERS)]
    ends = _ganged(made(tmp_path, arms))
    for end, arm in zip(ends, arms, strict=True):
        assert end.status == "finished"
        _same(end.record, alone(arm))
        assert record.read(end.record)["ran"] == {"how": "gang", "arms": 3}


@pytest.mark.slow
def test_a_gang_that_was_stopped_goes_on_bit_for_bit(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = [("tuning=delta",), ("seed=1", "train.steps=10"), ("tuning=deep",)]
    whole = _ganged(made(tmp_path / "whole", arms))
    real = train.advance

    def advance(live: Any, accelerator: Any) -> None:
        if live[0].progress.step == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        real(live, accelerator)

    monkeypatch.setattr(train, "advance", advance)
    ends = _ganged(made(tmp_path / "broken", arms))
    assert [end.status for end in ends] == ["stopped"] * 3
    assert [record.read(end.record)["status"] for end in ends] == ["stopped"] * 3
    monkeypatch.setattr(train, "advance", real)
    ends = _ganged(made(tmp_path / "broken", arms))
    assert [end.status for end in ends] == ["finished"] * 3
    for one, other in zip(whole, ends, strict=True):
        assert _losses(one.record) == _losses(other.record)
        assert record.read(one.record)["scores"] == record.read(other.record)["scores"]
        assert record.read(other.record)["training"]["attempts"] == 2


def test_what_can_not_be_shared_is_refused(made: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't share"):
        _ganged(made(tmp_path, [("seed=0",), ("decode.max_tokens=9",)]))


def test_a_record_that_was_begun_otherwise_says_so(made: Any, tmp_path: Path) -> None:
    config, other = made(tmp_path, [("seed=0",), ("seed=1",)], "train.steps=2")
    tree = to_tree(config)
    folder = record.folder_of(config.paths.outputs, config.name, record.run_id(tree)).partial
    (folder / "checkpoints").mkdir(parents=True)
    row = {"schema": record.SCHEMA, "ran": {"how": "solo"}, "data": {}}
    (folder / "record.json").write_text(json.dumps(row))
    ends = _ganged([config, other])
    assert [record.read(end.record)["ran"]["how"] for end in ends] == ["mixed", "gang"]


@pytest.mark.slow
def test_a_search_stops_the_losing_arms_which_can_be_taken_up_again(made: Any, tmp_path: Path) -> None:
    arms = [(f"seed={seed}", f"train.learning_rate={rate}") for seed in (0, 1) for rate in (1e-3, 1e-6, 1e-4)]
    configs = made(
        tmp_path, arms, "train.evals=5", "train.select=[{score: loss, weight: -1.0}]", "score.controls=false"
    )
    halving = Halving(eta=2.0, metric="loss", rungs=(1, 2), keep=1)
    jobs = [gang.Job(config, {}) for config in configs]
    ends = gang.execute_gang(jobs, halving)
    assert sorted(end.status for end in ends) == ["finished"] * 2 + ["halved"] * 4
    assert {ends[1].status, ends[4].status} == {"halved"}
    steps = sorted(len(_losses(end.record)) for end in ends)
    assert steps == [10, 10, 20, 20, 50, 50]
    left = record.read(ends[1].record)
    assert (left["status"], left["error"]["type"]) == ("stopped", "Halved")
    again = gang.execute_gang(jobs, halving)
    assert sorted(end.status for end in again) == ["already there"] * 2 + ["halved"] * 4
    taken_up = gang.execute(configs[1], {})
    assert len(_losses(taken_up)) == 50


_SEARCH = (
    "train.steps=10",
    "train.evals=5",
    "train.select=[{score: loss, weight: -1.0}]",
    "score.controls=false",
    "decode.max_tokens=2",
)
_GOOD, _POOR = ("train.learning_rate=5.0e-3",), ("train.learning_rate=1.0e-6",)


def _stopped_at(
    step: int, monkeypatch: pytest.MonkeyPatch, patched: Callable[[], list[gang.End]]
) -> list[gang.End]:
    """What a gang does that gets SIGTERM in a step."""
    real = train.advance

    def advance(live: Any, accelerator: Any) -> None:
        if live[0].progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        real(live, accelerator)

    with monkeypatch.context() as patch:
        patch.setattr(train, "advance", advance)
        return patched()


@pytest.mark.usefixtures("untraced")
def test_a_search_over_runs_beyond_its_rungs_cuts_them_and_trains_the_others_to_the_end(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = made(tmp_path, [_GOOD, _POOR], *_SEARCH)
    ends = _stopped_at(6, monkeypatch, lambda: _ganged(configs))
    assert [end.status for end in ends] == ["stopped"] * 2
    halving = Halving(eta=2.0, metric="loss", rungs=(1, 2), keep=1)
    ends = gang.execute_gang([gang.Job(config, {}) for config in configs], halving)
    assert [end.status for end in ends] == ["finished", "halved"]
    assert [len(_losses(end.record)) for end in ends] == [10, 7]
    assert "after 2 steps" in str(ends[1].error)


class _Closed(Halving):
    """A search that lets nobody go on."""

    def going(self, runs: Sequence[step.Arm]) -> list[step.Arm]:
        return []


def test_an_arm_that_nothing_lets_go_on_is_not_finished(made: Any, tmp_path: Path) -> None:
    configs = made(tmp_path, [("seed=0",), ("seed=1",)], *_SEARCH)
    halving = _Closed(eta=2.0, metric="loss", rungs=(1,), keep=1)
    ends = gang.execute_gang([gang.Job(config, {}) for config in configs], halving)
    assert [end.status for end in ends] == ["failed"] * 2
    assert "left at step 0 of 10" in str(ends[0].error)


_DIVERGES = ("seed=2", "train.learning_rate=1.0e30", "train.clip_norm=null")


def test_a_gang_that_is_stopped_tells_of_each_arm_what_became_of_it(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = made(tmp_path, [_GOOD, _POOR, _DIVERGES], *_SEARCH)
    halving = Halving(eta=2.0, metric="loss", rungs=(2,), keep=1)
    jobs = [gang.Job(config, {}) for config in configs]
    ends = _stopped_at(6, monkeypatch, lambda: gang.execute_gang(jobs, halving))
    assert [end.status for end in ends] == ["stopped", "halved", "failed"]
    records = [record.read(end.record) for end in ends]
    assert [told["status"] for told in records] == ["stopped", "stopped", "failed"]
    assert [told["error"]["type"] for told in records] == ["Interrupted", "Halved", "FloatingPointError"]
    assert [told["training"]["step"] for told in records[:2]] == [7, 4]
    assert ends[1].best == records[1]["training"]["best"]
    again = gang.execute_gang(jobs[:2], halving)
    assert [end.status for end in again] == ["finished", "halved"]
    assert again[1].best == ends[1].best


@pytest.mark.parametrize("arms", [[("seed=0",)], [("seed=0",), ("seed=1",)]])
@pytest.mark.usefixtures("untraced")
def test_a_run_that_is_stopped_after_its_last_step_does_not_train_again(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arms: Any
) -> None:
    configs = made(tmp_path, arms, *_SEARCH, "train.steps=4", "train.evals=1")
    real = gang.examine

    def examine(*told: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*told)

    with monkeypatch.context() as patch:
        patch.setattr(gang, "examine", examine)
        ends = _ganged(configs)
    assert [end.status for end in ends] == ["stopped"] * len(arms)
    told = record.read(ends[0].record)
    assert (told["status"], told["training"]["step"]) == ("stopped", 4)
    assert "while writing and scoring reports" in told["error"]["message"]

    def advance(*_: Any) -> None:
        raise AssertionError("it trains again")

    monkeypatch.setattr(train, "advance", advance)
    ends = _ganged(configs)
    assert [end.status for end in ends] == ["finished"] * len(arms)
    assert all(len(_losses(end.record)) == 4 for end in ends)
    assert record.read(ends[0].record)["training"]["attempts"] == 2
    assert not (ends[0].record / "checkpoints").exists()


def test_a_search_by_a_metric_that_no_validation_gives_trains_nothing(made: Any, tmp_path: Path) -> None:
    halving = Halving(eta=2.0, metric="rouge_i", rungs=(1,), keep=1)
    jobs = [gang.Job(config, {}) for config in made(tmp_path, [("seed=0",), ("seed=1",)])]
    ends = gang.execute_gang(jobs, halving)
    assert [end.status for end in ends] == ["failed"] * 2
    assert "gives no 'rouge_i'; did you mean 'rouge_l'? (there are: select, loss, rouge_l;" in str(
        ends[0].error
    )
    assert list(tmp_path.glob("run/*")) == []


@pytest.mark.usefixtures("untraced")
def test_a_search_says_which_runs_do_not_compete(
    made: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configs = made(
        tmp_path,
        [_GOOD, _LLM, _POOR],
        *_SEARCH,
        "train.steps=2",
        "train.evals=2",
    )
    halving = Halving(eta=2.0, metric="select", rungs=(1,), keep=1)
    ends = gang.execute_gang([gang.Job(config, {}) for config in configs], halving)
    assert sorted(end.status for end in ends) == ["finished", "finished", "halved"]
    assert ends[1].status == "finished"
    assert f"1 runs change the llm, so they don't compete in the search: {ends[1].record.name}" in caplog.text


def test_a_gradient_that_is_not_finite_ends_its_arm_before_anything_is_saved(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = step._mean_gradients

    def spoiled(learns: Any, accelerator: Any) -> None:
        real(learns, accelerator)
        spoiled.calls += 1  # type: ignore[attr-defined]
        if spoiled.calls == 3:  # type: ignore[attr-defined]
            learns[0].grad[0] = float("nan")

    spoiled.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(step, "_mean_gradients", spoiled)
    words = ("train.steps=8", "train.evals=1", "train.checkpoint_steps=3")
    end = _ganged(made(tmp_path, [("seed=0",)], *_SEARCH, *words))[0]
    assert end.status == "failed"
    assert "the gradient's norm is nan at step 3" in str(end.error)
    assert not list(end.record.glob("checkpoints/step-*"))
    assert len(_losses(end.record)) == 2


def test_the_loss_scale_of_fp16_is_that_of_the_checkpoint(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        train, "scaler_of", lambda *_: torch.amp.GradScaler("cpu")
    )  # in fp32: CPUs emulate fp16
    configs = made(tmp_path, [("seed=0",)], *_SEARCH, "train.steps=6", "train.evals=1")
    scales: list[float] = []
    real = train.advance

    def advance(live: Any, accelerator: Any) -> None:
        scales.append(live[0].scaler.get_scale())
        real(live, accelerator)
        live[0].scaler.update(8.0 * live[0].progress.step)

    monkeypatch.setattr(train, "advance", advance)
    ends = _stopped_at(2, monkeypatch, lambda: _ganged(configs))
    assert ends[0].status == "stopped"
    assert "scaler" not in record.read(ends[0].record)["training"]["extra"]
    ends = _ganged(configs)
    assert ends[0].status == "finished"
    assert scales == [65536.0, 8.0, 16.0, 24.0, 32.0, 40.0]
    assert "scaler" not in record.read(ends[0].record)["training"]["extra"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell them apart")
@pytest.mark.usefixtures("untraced")
def test_a_run_s_peak_of_memory_is_not_that_of_runs_before_it(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gang that holds much for a moment, then a turn, then a launch of one run in the same process."""
    real, megabytes = gang.examine, iter([400, 0, 0])

    def examine(*told: Any) -> Any:
        torch.ones(next(megabytes) * 2**20, dtype=torch.uint8)
        return real(*told)

    monkeypatch.setattr(gang, "examine", examine)
    words = (*_SEARCH, "train.steps=2", "train.evals=1")
    arms = [("seed=0",), ("seed=1",), _LLM, ("seed=2",)]
    configs = made(tmp_path, arms, *words)
    ends = [*_ganged(configs[:3]), *_ganged(configs[3:])]
    assert [record.read(end.record)["ran"]["how"] for end in ends] == ["gang", "gang", "turn", "solo"]
    told = [record.read(end.record)["peak_memory"] for end in ends]
    assert {peak["what"] for peak in told} == {"resident"}
    gang_, _, turn, solo = (peak["bytes"] / 2**20 for peak in told)
    assert max(turn, solo) < gang_ - 300


def test_a_peak_of_memory_that_can_not_be_told_apart_is_not_told(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(memory.Peak, "_latest", None)
    configs = made(tmp_path, [("seed=0",), _LLM], *_SEARCH, "train.steps=2", "train.evals=1")
    first, turn = (record.read(end.record)["peak_memory"] for end in _ganged(configs))
    assert first["bytes"] > 0
    assert turn == {}


def test_a_run_that_another_launch_works_on_is_left_to_it(made: Any, tmp_path: Path) -> None:
    configs = made(tmp_path, [("seed=0",), ("seed=1",)], *_SEARCH, "train.steps=2", "train.evals=1")
    tree = to_tree(configs[0])
    folder = record.folder_of(configs[0].paths.outputs, configs[0].name, record.run_id(tree))
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(folder.partial)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    ends = _ganged(configs)
    assert [end.status for end in ends] == ["failed", "finished"]
    assert f"held by process {holder.pid} on {socket.gethostname()}" in str(ends[0].error)
    assert not (folder.partial / "record.json").exists()
    holder.kill()
    holder.communicate()
    ends = _ganged(configs)
    assert [end.status for end in ends] == ["finished", "already there"]
    assert not list(tmp_path.glob("run/*/.lock"))
    assert not folder.partial.exists()


_HOLDS = """
import sys
from pathlib import Path
from r2g.core.lock import Lock
Lock(Path(sys.argv[1])).take()
print("held", flush=True)
sys.stdin.read()
"""
