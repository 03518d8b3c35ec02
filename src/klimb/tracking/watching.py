"""Looks at a run's metrics by its rules, tells what they find, and keeps what should stop the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from klimb.tracking.alerts import Alert


class Watcher:
    """The rules of one run. `lines` and `events` are what the run's directory holds already."""

    def __init__(
        self,
        rules: Sequence[Alert],
        lines: Sequence[Mapping[str, Any]],
        events: Sequence[Mapping[str, Any]],
        tell: Callable[..., None],
    ) -> None:
        self._rules, self._lines, self._tell = rules, list(lines), tell
        self._ringing = [False] * len(rules)
        stops = [event for event in events if event.get("kind") == "alert" and event.get("stop")]
        self._since = {str(event["rule"]): int(event["step"]) for event in stops}
        self.halt = ""
        """What should stop the run; empty where nothing should."""

    def observe(self, step: int, line: Mapping[str, Any]) -> None:
        """One step's metrics: each rule that comes true says so, once."""
        if not self._rules:
            return
        self._lines.append({**line, "step": step})
        for place, rule in enumerate(self._rules):
            new = sum(one["step"] > self._since.get(rule.label, -1) for one in self._lines)
            what = rule.trips(self._lines) if new >= rule.steps else ""
            if what and not self._ringing[place]:
                self._tell("alert", rule=rule.label, step=step, what=what, stop=rule.stop)
                self.halt = self.halt or (what if rule.stop else "")
            self._ringing[place] = bool(what)
