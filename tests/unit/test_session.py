"""What a run says and refuses before its first step."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from r2g import session
from r2g.config.schema import RunConfig
from r2g.core import hardware
from r2g.core.beside import told_to_a_run
from r2g.core.speed import slowdown

_CPU = torch.device("cpu")


@pytest.fixture
def afresh() -> Iterator[None]:
    """accelerate's launch is a process's."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("afresh")
def test_gangs_of_a_process_may_differ_in_precision_and_device(configured: Callable[..., RunConfig]) -> None:
    given = [("fp32", "cpu"), ("bf16", "auto"), ("fp32", "auto")]
    for precision, device in given:
        found = session.make_accelerator(configured(f"train.precision={precision}", f"train.device={device}"))
        assert found.mixed_precision == {"fp32": "no"}.get(precision, precision)
        wanted = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
        assert found.device.type == wanted


@pytest.mark.usefixtures("afresh")
def test_a_precision_that_is_not_to_be_had_is_refused(
    configured: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise ValueError("fp16 mixed precision requires a GPU")

    monkeypatch.setattr(session, "Accelerator", refuse)
    with pytest.raises(session.RunFailed, match="train.precision=fp16 can't be had here: fp16 mixed"):
        session.make_accelerator(configured("train.precision=fp16", "train.device=cpu"))


def test_a_cpu_is_named_with_its_threads(tmp_path: Path) -> None:
    told = hardware.described(_CPU)
    assert (told["type"], told["threads"]) == ("cpu", torch.get_num_threads())
    assert told["name"]
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nmodel name\t: A Fast One: 2 GHz\n")
    assert hardware._processor(listed) == "A Fast One: 2 GHz"
    assert hardware._processor(tmp_path / "none")


def test_a_device_that_others_use_meanwhile_is_not_the_same_to_a_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = hardware.described(_CPU)
    for name, value in told_to_a_run(2).items():
        monkeypatch.setenv(name, value)
    assert hardware.described(_CPU) == {**alone, "beside": 2}


def test_a_dtype_is_as_fast_as_itself() -> None:
    assert 0.05 < slowdown(torch.float32, _CPU) < 20


@pytest.mark.parametrize(("times", "told"), [(100.0, True), (0.25, False)])
def test_a_cpu_that_emulates_the_precision_is_named(
    configured: Callable[..., RunConfig],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    times: float,
    told: bool,
) -> None:
    monkeypatch.setattr(session, "slowdown", lambda dtype, device: times)
    with caplog.at_level(logging.WARNING):
        session.warn_of_emulation(configured("train.precision=bf16"), _CPU)
    assert ("train.precision=fp32" in caplog.text) is told


@pytest.mark.parametrize(("precision", "device"), [("fp32", "cpu"), ("bf16", "cuda")])
def test_nothing_is_measured_where_nothing_is_emulated(
    configured: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, precision: str, device: str
) -> None:
    def measure(*_: object) -> float:
        raise AssertionError("measured")

    monkeypatch.setattr(session, "slowdown", measure)
    session.warn_of_emulation(configured(f"train.precision={precision}"), torch.device(device))
