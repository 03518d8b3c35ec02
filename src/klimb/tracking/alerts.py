"""Alerts: rules over a run's metrics that say a line when something goes wrong, and stop the run where asked to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from klimb.config import Settings
from klimb.errors import KlimbError
from klimb.tracking.hacking import course
from klimb.tracking.metrics import GLOSSARY, find

History = Sequence[Mapping[str, Any]]
"""The lines of metrics.jsonl so far, the newest last."""
Count = Annotated[int, Field(ge=1)]


class Alert(Settings):
    """A rule. It says its line once when it comes true, and again only after it was not true in between."""

    type: str
    stop: bool = False
    """Whether the run stops, everything saved, with exit code 10; started again, it goes on, and this rule counts
    its `steps` anew."""
    steps: Count = 1
    """For how many steps in a row it must hold (of those steps that have the metric)."""

    @property
    def label(self) -> str:
        """What the rule is called in its line."""
        return self.type

    def trips(self, history: History) -> str:
        """What is wrong at the newest line, in words; empty where nothing is."""
        raise NotImplementedError


class MetricAlert(Alert):
    """Any metric above or below a value."""

    type: Literal["metric"] = "metric"
    metric: str
    """The metric's name, as in metrics.jsonl."""
    above: float | None = None
    """Trips above this value."""
    below: float | None = None
    """Trips below this value."""

    @property
    def label(self) -> str:
        return f"metric {self.metric}"

    def faults(self) -> list[KlimbError]:
        """The metric must exist, and there must be a bound."""
        faults = []
        if self.above is None and self.below is None:
            faults.append(KlimbError(f"an alert on {self.metric}", "neither above nor below", "above=VALUE"))
        names = [metric.name for metric in GLOSSARY]
        near = difflib.get_close_matches(self.metric, names, n=1, cutoff=0.85)
        if self.metric not in names and (near or find(self.metric) is None):
            near = near or difflib.get_close_matches(self.metric, names, n=1, cutoff=0.0)
            faults.append(KlimbError(f"an alert on the metric {self.metric}", "no such metric", f"metric={near[0]}"))
        return faults

    def trips(self, history: History) -> str:
        values = last(history, self.metric, self.steps)
        if self.above is not None and values and min(values) > self.above:
            return f"{self.metric} is {values[-1]:.4g}, above {self.above:g}{_during(self.steps)}"
        if self.below is not None and values and max(values) < self.below:
            return f"{self.metric} is {values[-1]:.4g}, below {self.below:g}{_during(self.steps)}"
        return ""


class EntropyCollapse(Alert):
    """The policy's entropy has fallen to a small share of what it began with: it explores no more."""

    type: Literal["entropy-collapse"] = "entropy-collapse"
    metric: ClassVar[str] = "policy/entropy"
    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Of the entropy of the first step."""
    steps: Count = 3

    def trips(self, history: History) -> str:
        first, values = valued(history, self.metric)[:1], last(history, self.metric, self.steps)
        if values and max(values) < self.share * first[0]:
            return f"{self.metric} is {values[-1]:.4g} nats a token, and was {first[0]:.4g}{_during(self.steps)}"
        return ""


class KLSpike(Alert):
    """The divergence is many times what it was just before."""

    type: Literal["kl-spike"] = "kl-spike"
    metric: Literal["policy/kl_old", "policy/kl_ref"] = "policy/kl_old"
    """From the policy that sampled, or from the initial one."""
    factor: Annotated[float, Field(gt=1.0)] = 10.0
    """How many times the median of the steps before."""
    floor: Annotated[float, Field(ge=0.0)] = 0.01
    """Nats a token under which nothing is a spike."""
    window: Annotated[int, Field(ge=3)] = 20
    """How many steps before are looked at; with fewer than three there is no alert."""

    def trips(self, history: History) -> str:
        values = last(history, self.metric, self.steps)
        before = valued(history, self.metric)[: -self.steps][-self.window :]
        if len(before) < 3 or not values or min(values) <= max(self.floor, self.factor * median(before)):
            return ""
        return f"{self.metric} is {values[-1]:.4g} nats a token, and its median was {median(before):.4g}"


class Degenerate(Alert):
    """Every prompt's completions got the same reward: there is nothing to learn from."""

    type: Literal["degenerate"] = "degenerate"
    steps: Count = 3

    def trips(self, history: History) -> str:
        values = last(history, "group/degenerate", self.steps)
        return f"every group is without a signal{_during(self.steps)}" if values and min(values) >= 1.0 else ""


class Truncation(Alert):
    """Too many completions are cut off at the length limit."""

    type: Literal["truncation"] = "truncation"
    share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """More than this share of a step's completions."""
    steps: Count = 3

    def trips(self, history: History) -> str:
        values = last(history, "length/truncated", self.steps)
        if not values or min(values) <= self.share:
            return ""
        return f"{values[-1]:.0%} of the completions are cut off at the length limit{_during(self.steps)}"


class Overoptimised(Alert):
    """The reward in training rises while held-out accuracy falls: the reward is being gamed, or learned by heart."""

    type: Literal["overoptimised"] = "overoptimised"
    drop: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    """How far under its best so far held-out accuracy must be, as a share."""

    def trips(self, history: History) -> str:
        places = [place for place, line in enumerate(history) if line.get("eval/accuracy") is not None]
        if len(places) < 2 or places[-1] != len(history) - 1:
            return ""
        accuracies = [float(history[place]["eval/accuracy"]) for place in places]
        best = max(range(len(places) - 1), key=lambda number: accuracies[number])
        start = places[best - 1] + 1 if best else 0
        before = valued(history[start : places[best] + 1], "reward/mean") or valued(history, "reward/mean")[:1]
        now = valued(history[places[-2] + 1 :], "reward/mean")
        if accuracies[-1] >= accuracies[best] - self.drop or not now or fmean(now) <= fmean(before):
            return ""
        return (
            f"held-out accuracy is {accuracies[-1]:.1%} and was {accuracies[best]:.1%}, "
            f"while the reward rose from {fmean(before):.3g} to {fmean(now):.3g}"
        )


class Hacked(Alert):
    """A held-out source's score has fallen since its best while the reward rose: the reward is being gamed."""

    type: Literal["hacked"] = "hacked"
    source: str
    """The name of a source that is not trained on (weight 0)."""
    drop: Annotated[float, Field(ge=0.0)] = 0.05
    """How far under its best its score must be, as means over the window."""
    window: Annotated[int, Field(ge=1)] = 10
    """Over how many steps the means are."""

    def trips(self, history: History) -> str:
        name = f"reward/{self.source}"
        rows = [line for line in history if line.get(name) is not None and line.get("reward/mean") is not None]
        found = [course(rows[: len(rows) - back], name, "reward/mean", self.window) for back in range(self.steps)]
        seen = found[0]
        if seen is None or not all(one and one.gamed and one.now < one.best - self.drop for one in found):
            return ""
        return (
            f"{name} is {seen.now:.3g} and was {seen.best:.3g} at step {seen.step}, "
            f"while the reward rose from {seen.reward_then:.3g} to {seen.reward_now:.3g}{_during(self.steps)}"
        )


class Unbelievable(Alert):
    """What is learned from counts for too little under the policy as it is: its gradient is that of a few answers."""

    type: Literal["unbelievable"] = "unbelievable"
    effective: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Trips where the answers count for less than this share of their number (`replay/effective`, else that of all).
    It is of whole answers: weights of tokens spread less, and leave out how likely the answer was up to there."""
    clipped: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Trips where the clip takes the gradient of more than this share of the tokens."""
    steps: Count = 3

    def trips(self, history: History) -> str:
        newest = history[-1] if history else {}
        name = "replay/effective" if newest.get("replay/effective") is not None else "policy/effective"
        sizes, cuts = last(history, name, self.steps), last(history, "policy/clip_share", self.steps)
        if sizes and max(sizes) < self.effective:
            return f"whole answers count as {sizes[-1]:.1%} of their number ({name}){_during(self.steps)}"
        if cuts and min(cuts) > self.clipped:
            return f"the clip takes the gradient of {cuts[-1]:.0%} of the tokens{_during(self.steps)}"
        return ""


AnyAlert = Annotated[
    MetricAlert | EntropyCollapse | KLSpike | Degenerate | Truncation | Overoptimised | Hacked | Unbelievable,
    Field(discriminator="type"),
]


def valued(history: History, name: str) -> list[float]:
    """The values of a metric on the lines that have it."""
    return [float(value) for line in history if (value := line.get(name)) is not None]


def last(history: History, name: str, steps: int) -> list[float]:
    """Its last `steps` values, where the newest line has one and there are so many; else none."""
    if not history or history[-1].get(name) is None:
        return []
    values = valued(history, name)
    return values[-steps:] if len(values) >= steps else []


def _during(steps: int) -> str:
    return f", for {steps} steps" if steps > 1 else ""
