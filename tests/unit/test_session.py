"""What a run says and refuses before its first step."""

import logging
from collections.abc import Callable

import pytest
import torch

from r2g import session
from r2g.config.schema import RunConfig
from r2g.core.speed import slowdown

_CPU = torch.device("cpu")


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
