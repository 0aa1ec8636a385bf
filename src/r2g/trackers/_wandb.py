"""One W&B run as a tracker's backend."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r2g.core import filing, keys
from r2g.trackers._guard import Backend
from r2g.trackers.base import RunIdentity


class WandbRun(Backend):
    """Not the process's global run: several live side by side. Opened by `start`."""

    name = "wandb"

    def __init__(
        self,
        identity: RunIdentity,
        *,
        online: bool,
        project: str,
        entity: str | None,
        send_text: bool,
        send_images: bool,
        patience: float,
    ) -> None:
        self._identity, self._online = identity, online
        self._project, self._entity, self._patience = project, entity, patience
        self._send_text, self._send_images = send_text, send_images
        self._run: Any = None
        super().__init__()

    @property
    def tracker(self) -> Any:
        return self._run

    def start(self) -> None:
        # W&B sends its own errors home, stack traces included, and this variable is the only switch.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        me, folder = self._identity, Path(self._identity.folder)
        folder.mkdir(parents=True, exist_ok=True)  # W&B would quietly write to another place
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            mode="online" if self._online else "offline",
            id=me.id,
            name=me.name,
            group=me.group,
            tags=list(me.tags),
            job_type=me.job_type,
            dir=str(folder),
            resume="allow" if self._online else None,
            reinit="create_new",
            settings=wandb.Settings(**self._options()),
        )
        self._define_axes()

    def _options(self) -> dict[str, Any]:
        """Console, code, git, machine and packages stay out of a run, and no wait is endless."""
        return {
            "disable_git": True,
            "disable_code": True,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_disable_machine_info": True,
            "console": "off",
            "host": "",
            "save_code": False,
            "x_save_requirements": False,
            "quiet": True,
            "silent": not self._online,
            "login_timeout": self._patience,
            "init_timeout": self._patience,
            "finish_timeout": self._patience,
        }

    def _define_axes(self) -> None:
        for axis in keys.AXES:
            self._run.define_metric(axis)
        for group in (keys.TRAIN, keys.VAL):
            self._run.define_metric(f"{group}/*", step_metric=keys.STEP)
        for axis in filing.DRAWN_AGAINST:
            self._run.define_metric(keys.by(axis, "*"), step_metric=axis)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._run.config.update(values, allow_val_change=True)

    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        # A resumed online run may know later steps than our checkpoint did; the server would refuse them.
        if step is not None and step < self._run.starting_step:
            return
        axis = {} if step is None else {keys.STEP: step}
        self._run.log({**axis, **filing.drawn(values)}, step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(values))

    def replay(self, entries: Sequence[Mapping[str, Any]]) -> None:
        for entry in entries:
            self.log(entry, step=int(entry[keys.STEP]))
        # Offline, each attempt left files of its own; synced, two with one id would mix. These hold it all.
        kept = Path(self._run.dir).parent
        for old in kept.parent.glob(f"offline-run-*-{self._identity.id}"):
            if old != kept:
                shutil.rmtree(old)

    def log_text(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self._send_text:
            import wandb

            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            self._run.log({name: table})

    def log_images(self, name: str, images: Sequence[Any]) -> None:
        if self._send_images:
            import wandb

            self._run.log({name: [wandb.Image(image) for image in images]})

    def close(self, failed: bool) -> None:
        if self._run is not None:
            self._run.finish(exit_code=1 if failed else 0)
