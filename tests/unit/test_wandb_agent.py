"""sweeps/wandb: W&B's own commands register each file, draw from it, and start our entry point with what was drawn."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from r2g import record
from r2g.config.resolve import resolve

_FILES = sorted((Path(__file__).resolve().parents[2] / "sweeps" / "wandb").glob("*.yaml"))
# The agent looks at its runs and asks for the next one every 5 seconds.
_CALL = "from wandb import wandb_agent; wandb_agent.Agent.POLL_INTERVAL = 0.1; from wandb.cli.cli import cli; cli()"
_SERVER = ("WANDB_BASE_URL", "WANDB_API_KEY")


class Handed:
    """What W&B's server, and an agent that asked it, made of a file."""

    def __init__(self, server: Any, folder: Path) -> None:
        self._server, self.folder = server, folder
        home = folder / "bin"
        home.mkdir()
        self._python = home / "python"  # the agent starts `/usr/bin/env python`
        self._env = {k: v for k, v in server.env.items() if not k.startswith("WANDB_") or k in _SERVER}
        self._env |= {"PATH": f"{home}:{self._env['PATH']}", "R2G_CACHE": str(folder / "cache")}

    def wandb(self, *words: str) -> str:
        """What `wandb WORDS` says."""
        done = subprocess.run(
            [sys.executable, "-c", _CALL, *words],
            env=self._env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def run(self, path: Path, draws: Sequence[dict[str, Any]], more: str) -> str:
        """Register the file and let an agent start a run of each draw, with `more` at the end of its command."""
        self._python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@" {more}\n')
        self._python.chmod(0o755)
        told = self.wandb("sweep", "--entity", "me", str(path))
        assert "wandb agent me/r2g/sweep1" in told
        self._server.draws = [dict(drawn) for drawn in draws]
        return self.wandb("agent", "me/r2g/sweep1")


@pytest.fixture
def handed(wandb_server: Any, tmp_path: Path) -> Handed:
    return Handed(wandb_server, tmp_path)


def _drawn(parameters: dict[str, Any]) -> dict[str, Any]:
    """The last value of each axis, or of a range a number that Python writes with an exponent."""
    return {
        key: axis["values"][-1] if "values" in axis else axis["min"] / 7.0 for key, axis in parameters.items()
    }


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_the_agent_starts_our_entry_point_with_what_was_drawn(
    path: Path, wandb_server: Any, handed: Handed, composed: Callable[..., Any]
) -> None:
    spec = yaml.safe_load(path.read_text())
    drawn = _drawn(spec["parameters"])
    handed.run(path, [drawn], '--cfg job > "$WANDB_RUN_ID.yaml"')
    registered = yaml.safe_load(wandb_server.sweep)
    assert registered == spec
    assert spec["project"] == composed().track.project
    given = OmegaConf.load(handed.folder / "drawn1.yaml")
    words = [f"{key}={value}" for key, value in drawn.items()]
    assert given == composed(f"name={path.stem}", "track.mode=online", *words)
    assert resolve(given).name == path.stem  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_that_the_agent_starts_tells_the_sweep_what_it_maximizes(
    wandb_server: Any, handed: Handed
) -> None:
    path = next(path for path in _FILES if "metric" in yaml.safe_load(path.read_text()))
    spec = yaml.safe_load(path.read_text())
    out = handed.folder / "out"
    more = f"+experiment=smoke name=agent train.evals=2 score.controls=false train.device=cpu paths.outputs={out}"
    handed.run(path, [_drawn(spec["parameters"])], more)
    (folder,) = out.glob("agent/*")
    told = record.read(folder)
    assert told["status"] == "finished"
    assert told["choices"]["projector"] == "mlp"
    (made,) = [given for kind, given in wandb_server.asked if kind == "UpsertBucket" and given.get("sweep")]
    assert (made["name"], made["sweep"], made["groupName"]) == ("drawn1", "sweep1", told["arm"])
    sent = [given for kind, given in wandb_server.asked if kind.endswith("/drawn1/file_stream")]
    lines = [
        line
        for given in sent
        for line in given.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
    ]
    values = [row[name] for row in map(json.loads, lines) if (name := spec["metric"]["name"]) in row]
    assert len(values) == 2
    assert max(values) == pytest.approx(told["training"]["best"])  # of a run, a search takes the best
    configs = [json.loads(given["config"]) for kind, given in wandb_server.asked if kind == "UpsertBucket"]
    assert configs[-1]["projector"]["value"] == "mlp"  # what the sweep sets stays its own
    assert configs[-1]["choices"]["value"] == told["choices"]
