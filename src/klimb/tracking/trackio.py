"""Trackio: a local store and dashboard."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any, ClassVar, Literal

from klimb.rundir import RunDir
from klimb.tracking.base import Quiet, Sink, Tracker, former_id, remember_id


class Trackio(Tracker):
    """Writes metrics to trackio's local store: `trackio show`."""

    type: Literal["trackio"] = "trackio"
    package: ClassVar[str] = "trackio"
    project: str = "klimb"
    """The project that the run belongs to."""
    name: str | None = None
    """The run's name; by default that of its folder."""

    def open(self, run: RunDir) -> Sink:
        return _Trackio(self, run)


class _Trackio(Quiet):
    def __init__(self, settings: Trackio, run: RunDir) -> None:
        self.settings, self.dir = settings, run
        self.run: Any = None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Begins the run, or goes on with it."""
        import trackio

        name = former_id(self.dir, "trackio") or self.settings.name or self.dir.path.resolve().name
        with redirect_stdout(sys.stderr):  # it greets; standard output is for the run's own lines
            self.run = trackio.init(
                project=self.settings.project, name=name, config=dict(config), resume="allow", embed=False
            )
        remember_id(self.dir, "trackio", name)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step."""
        self.run.log(dict(metrics), step=step)

    def finish(self, report: Mapping[str, Any]) -> None:
        """The end."""
        with redirect_stdout(sys.stderr):
            self.run.finish()
