"""Where a run's numbers and events go: the run directory, the terminal, and any trackers. Nothing here stops a run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from klimb.records import plain
from klimb.redact import redact
from klimb.rundir import RunDir
from klimb.tracking import metrics as glossary
from klimb.tracking.base import Tracker
from klimb.tracking.console import console_sink
from klimb.tracking.guard import Guard

log = logging.getLogger("klimb.tracking")
PATIENCE_AT_END = 20.0
"""Seconds that all trackers together may take to finish."""


class Tracking:
    """The trackers of one run, opened. Metrics themselves are appended to the run directory by the loop.

    `strict`: a metric that the glossary does not have is an error (in tests), else an event, once a name.
    """

    def __init__(
        self, run: RunDir, trackers: Sequence[Tracker] = (), steps: int = 0, *, strict: bool = False, log: str = ""
    ) -> None:
        self.run, self.strict = run, strict
        self._unknown: set[str] = set()
        self._console = Guard("console", lambda: console_sink(run, steps, log), self._tell, threaded=False)
        self._guards = [Guard(_name(tracker), _opener(tracker, run), self._tell) for tracker in trackers]

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def start(self, config: Mapping[str, Any], step: int = 0) -> None:
        """The run begins, or goes on after `step`."""
        safe = redact(plain(config))
        for guard in self._all():
            guard.call("start", safe, step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step's metrics. Never raises, but for a name that is not in the glossary where `strict`."""
        self._check(metrics)
        finite = {name: float(value) for name, value in sorted(metrics.items()) if _finite(value)}
        for guard in self._all():
            guard.call("log", step, finite)

    def event(self, kind: str, **fields: Any) -> None:
        """Something happened: written to events.jsonl and shown."""
        self.run.event(kind, **fields)
        safe = redact(plain(fields))
        for guard in self._all():
            guard.call("event", kind, safe)

    def finish(self, report: Mapping[str, Any]) -> None:
        """The run ended; `report` says how (plain values). Waits a little for slow trackers."""
        safe = redact(plain(report))
        for guard in self._all():
            guard.call("finish", safe)
        self.close()

    def close(self) -> None:
        """Frees the terminal and lets go of the trackers; a run that ended otherwise than by `finish` ends here."""
        guards, self._guards = self._guards, []
        end = time.monotonic() + PATIENCE_AT_END
        for guard in guards:
            guard.close(max(end - time.monotonic(), 0.1))
        self._console.call("close")

    def _all(self) -> list[Guard]:
        return [self._console, *self._guards]

    def _check(self, metrics: Mapping[str, float]) -> None:
        if self.strict:
            glossary.require(metrics)
        if new := set(glossary.unknown(metrics)) - self._unknown:
            self._unknown |= new
            self.run.event("unknown_metrics", names=sorted(new))

    def _tell(self, kind: str, **fields: Any) -> None:
        """A guard's event: to the run directory, and to the terminal unless that is what failed."""
        self.run.event(kind, **fields)
        if fields.get("tracker") == "console":
            log.warning("the terminal's view failed (%s); the run goes on", fields.get("why"))
        else:
            self._console.call("event", kind, fields)


def _opener(tracker: Tracker, run: RunDir) -> Any:
    return lambda: tracker.open(run)


def _name(tracker: Tracker) -> str:
    return str(getattr(tracker, "type", type(tracker).__name__))


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
