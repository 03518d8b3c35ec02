"""What every tracker is: settings that open a sink for a run's numbers and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from klimb.config import Settings
from klimb.rundir import RunDir


class Sink(Protocol):
    """An opened tracker. It may raise or hang as it likes: a guard stands before it."""

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """The run begins, or goes on after `step`; `config` is the resolved settings without secrets."""
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step's metrics, finite ones only."""
        ...

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Something happened."""
        ...

    def finish(self, report: Mapping[str, Any]) -> None:
        """The run ended; `report` says how."""
        ...


class Quiet:
    """A sink that does nothing: the base of those that care for some things only."""

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Does nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Does nothing."""

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Does nothing."""

    def finish(self, report: Mapping[str, Any]) -> None:
        """Does nothing."""


class Tracker(Settings):
    """A tracker's settings."""

    package: ClassVar[str] = ""
    """The Python package that it needs, which is also the name of klimb's extra."""

    def open(self, run: RunDir) -> Sink:
        """The sink. May raise what it likes; imports its package here, and nowhere else."""
        raise NotImplementedError


def former_id(run: RunDir, tracker: str) -> str | None:
    """The id under which a tracker knows this run since an earlier attempt (its last `tracker_id` event)."""
    events = [e for e in run.read_events() if e.get("kind") == "tracker_id" and e.get("tracker") == tracker]
    return str(events[-1]["id"]) if events else None


def remember_id(run: RunDir, tracker: str, name: str) -> None:
    """Writes down the id under which a tracker knows this run, so that the next attempt goes on with it."""
    if former_id(run, tracker) != name:
        run.event("tracker_id", tracker=tracker, id=name)
