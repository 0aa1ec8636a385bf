"""The edge to W&B's server: who is logged in, and an upload; called only when sending was asked for."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

WANDB = (sys.executable, "-m", "wandb")
"""The command line of W&B; with another program in its place a test needs no server."""
_HOW = "log in with `wandb login`, or set WANDB_API_KEY"
_PATIENCE = 30


class CloudError(RuntimeError):
    """W&B can't be reached, or refuses; the message says what to do."""


def quiet() -> dict[str, str]:
    """The environment of a W&B process of ours: no error reports to its makers, and it goes online when told to."""
    kept = {k: v for k, v in os.environ.items() if k != "WANDB_MODE"}
    return {**kept, "WANDB_ERROR_REPORTING": "false"}


def login() -> None:
    """Ask the server who we are. Raises CloudError if no API key is known, or the server refuses it or isn't there.

    On a terminal, W&B asks for a missing key first.
    """
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb

    try:
        wandb.Api(timeout=_PATIENCE)
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise CloudError(f"not logged in to W&B, or it doesn't answer: {error}\n{_HOW}") from error
    except wandb.errors.Error as error:
        raise CloudError(f"W&B can't be reached ({type(error).__name__}: {error})") from error


def upload(folders: Sequence[Path], entity: str | None, project: str | None) -> None:
    """`wandb sync` of offline runs' folders; what it says goes to the screen.

    It marks each folder that arrived, which says more than its exit status: that is 0 if it got to the end.
    """
    named = {"--entity": entity, "--project": project}
    options = [word for option, value in named.items() if value is not None for word in (option, value)]
    call = [*WANDB, "sync", "--verbose", *options, *(str(folder.resolve()) for folder in folders)]
    with TemporaryDirectory() as logs:  # W&B's own; it would leave them where one stands
        subprocess.run(call, env={**quiet(), "WANDB_DIR": logs}, cwd=logs, check=False)
