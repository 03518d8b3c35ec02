"""Weights & Biases. The key comes from `wandb login` or WANDB_API_KEY, never from a setting."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from klimb.rundir import RunDir
from klimb.tracking.base import Quiet, Sink, Tracker, former_id, remember_id


class WandB(Tracker):
    """Sends metrics and settings to Weights & Biases; a run that goes on goes on there, too."""

    type: Literal["wandb"] = "wandb"
    package: ClassVar[str] = "wandb"
    project: str = "klimb"
    """The project that the run belongs to."""
    entity: str | None = None
    """The user or team; by default your own."""
    name: str | None = None
    """The run's name; by default that of its folder."""
    group: str | None = None
    """What the run is grouped under, for example for several seeds."""
    mode: Literal["online", "offline"] = "online"
    """`offline` writes files in the run directory, for `wandb sync` later."""

    def open(self, run: RunDir) -> Sink:
        return _WandB(self, run)


class _WandB(Quiet):
    def __init__(self, settings: WandB, run: RunDir) -> None:
        self.settings, self.dir = settings, run
        self.run: Any = None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Begins the run, or goes on with it."""
        import wandb

        s, name = self.settings, former_id(self.dir, "wandb") or secrets.token_hex(4)
        self.run = wandb.init(
            project=s.project,
            entity=s.entity,
            name=s.name or self.dir.path.resolve().name,
            group=s.group,
            mode=s.mode,
            id=name,
            resume="allow",
            config=dict(config),
            dir=str(self.dir.path),
            save_code=False,
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, init_timeout=60),
        )
        remember_id(self.dir, "wandb", name)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step."""
        self.run.log(dict(metrics), step=step)

    def finish(self, report: Mapping[str, Any]) -> None:
        """The summary, then the end."""
        self.run.summary.update({f"report/{name}": value for name, value in report.items()})
        self.run.finish()
