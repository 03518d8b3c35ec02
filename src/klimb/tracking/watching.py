"""Looks at a run's metrics by its rules, tells what they find, and keeps what should stop the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from klimb.errors import KlimbError
from klimb.tracking.alerts import Alert, EntropyCollapse, Hacked, KLSpike, MetricAlert
from klimb.tracking.metrics import GLOSSARY


class Watcher:
    """The rules of one run. `lines` and `events` are what the run's directory holds already.

    Events later than the last line are of steps that the run goes through again: they count for nothing.
    """

    def __init__(
        self,
        rules: Sequence[Alert],
        lines: Sequence[Mapping[str, Any]],
        events: Sequence[Mapping[str, Any]],
        tell: Callable[..., None],
    ) -> None:
        self._rules, self._lines, self._tell = rules, list(lines), tell
        self._ringing = [False] * len(rules)
        last = max((int(line["step"]) for line in lines), default=-1)
        stops = [event for event in events if event.get("kind") == "alert" and event.get("stop")]
        self._since = {_stopped(event): int(event["step"]) for event in stops if int(event["step"]) <= last}
        self.halt = ""
        """What should stop the run; empty where nothing should."""

    def observe(self, step: int, line: Mapping[str, Any]) -> None:
        """One step's metrics: each rule that comes true says so, once."""
        if not self._rules:
            return
        self._lines.append({**line, "step": step})
        for place, rule in enumerate(self._rules):
            since = self._since.get(_settings(rule), self._since.get(rule.label, -1))
            new = sum(one["step"] > since for one in self._lines)
            what = rule.trips(self._lines) if new >= rule.steps else ""
            if what and not self._ringing[place]:
                self._tell("alert", rule=rule.label, step=step, what=what, stop=rule.stop, settings=_settings(rule))
                self.halt = self.halt or (what if rule.stop else "")
            self._ringing[place] = bool(what)


def unwatched(rules: Sequence[Alert], weights: Mapping[str, float]) -> Iterator[KlimbError]:
    """A fault for each rule on a held-out source that is none. `weights`: those of the reward sources by name."""
    held_out = [name for name, weight in weights.items() if weight == 0]
    for rule in rules:
        if isinstance(rule, Hacked) and rule.source not in held_out:
            found = f"its weight is {weights[rule.source]:g}" if rule.source in weights else "no reward has that name"
            cure = f"one of weight 0: {', '.join(held_out) or 'there is none, add one to rewards'}"
            yield KlimbError(f"an alert on the held-out source {rule.source!r}", found, cure)


def unmoved(rules: Sequence[Alert], updates: int, refers: bool, speaks: bool) -> Iterator[KlimbError]:
    """A fault for each rule on a metric that is always zero with so many `updates` a batch, or that is never there.

    `speaks`: whether log-probs are computed, of which every measure of the policy in the glossary is made.
    """
    for rule in rules:
        if not isinstance(rule, EntropyCollapse | KLSpike | MetricAlert):
            continue
        asked = f"an alert ({rule.type}) on {rule.metric}"
        if not speaks and rule.metric.startswith("policy/") and rule.metric in (one.name for one in GLOSSARY):
            found = "values alone are trained, and no log-probs are there to make it of"
            yield KlimbError(asked, found, "another metric, such as preference/accuracy, or no such alert")
            continue
        if updates == 1 and (rule.metric == "policy/kl_old" or "/clip_" in rule.metric):
            found = "one update a batch, before which the policy is the one that sampled: it is always 0"
            yield KlimbError(asked, found, "source.minibatches=2 (or source.epochs=2), or another metric")
        if rule.metric == "policy/kl_ref" and not refers:
            yield KlimbError(asked, "an objective without a reference, which never gives it", "objective.beta above 0")


def _settings(rule: Alert) -> str:
    """What tells a rule from every other one, whatever it is called."""
    return json.dumps(rule.model_dump(mode="json"), sort_keys=True)


def _stopped(event: Mapping[str, Any]) -> str:
    """The rule that stopped the run; events of older versions know only what it is called."""
    return str(event.get("settings") or event["rule"])
