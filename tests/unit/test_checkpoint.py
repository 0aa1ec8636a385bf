"""A kill at any moment of a save leaves a checkpoint that can be taken up."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from r2g import checkpoint
from r2g.checkpoint import Progress


class _Killed(BaseException):
    pass


@pytest.fixture
def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


def _kill_at(call: int, patch: pytest.MonkeyPatch) -> None:
    """Before the n-th renaming or removal."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == call:
                raise _Killed
            return real(*args, **keywords)

        return act

    patch.setattr(Path, "replace", counted(Path.replace))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))


@pytest.mark.parametrize("steps", [(10, 10), (10, 20), (10, 10, 10)])
def test_a_kill_anywhere_in_a_save_leaves_one_to_go_on_from(
    steps: tuple[int, ...], trained: Any, tmp_path: Path
) -> None:
    model, optimizer = trained
    for call in range(1, 9):
        folder = tmp_path / str(call)
        for samples, step in enumerate(steps[:-1]):
            checkpoint.save(folder, model, optimizer, Progress(step=step, samples=samples))
        last = Progress(step=steps[-1], samples=len(steps) - 1)
        with pytest.MonkeyPatch.context() as patch:
            _kill_at(call, patch)
            try:
                checkpoint.save(folder, model, optimizer, last)
                killed = False
            except _Killed:
                killed = True
        found = checkpoint.restore(folder, model, optimizer)
        assert found is not None
        assert found.samples in (len(steps) - 2, len(steps) - 1)
        checkpoint.save(folder, model, optimizer, last)
        assert checkpoint.restore(folder, model, optimizer) == last
        assert [path.name for path in folder.iterdir()] == [f"step-{last.step:08d}"]
    assert not killed  # the last of these calls was one too many


def test_of_one_step_the_one_in_its_place_is_taken(trained: Any, tmp_path: Path) -> None:
    model, optimizer = trained
    checkpoint.save(tmp_path, model, optimizer, Progress(step=10, samples=1))
    (tmp_path / "step-00000010").rename(tmp_path / ".step-00000010")
    checkpoint.save(tmp_path / "other", model, optimizer, Progress(step=10, samples=2))
    (tmp_path / "other" / "step-00000010").rename(tmp_path / "step-00000010")
    found = checkpoint.restore(tmp_path, model, optimizer)
    assert found is not None
    assert found.samples == 2
