"""What a run directory tells, put together for the report; what is missing is said to be missing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from klimb import rollouts
from klimb.errors import KlimbError
from klimb.records import flatten
from klimb.redact import redact
from klimb.rundir import RunDir
from klimb.tracking.sources import Sources, correlate, sources
from klimb.tracking.stages import ORDER, stages
from klimb.types import Group

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where time went: seconds in all, per step (median), and the share of all."""

    name: str
    total: float
    each: float
    share: float


@dataclass(frozen=True, slots=True)
class Answered:
    """A completion as the report shows it; `right` is None where it could not be scored."""

    text: str
    right: bool | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out prompt with what was answered before and after training."""

    prompt: str
    answer: str | None
    before: Answered
    after: Answered


@dataclass(slots=True)
class Story:
    """All that the report is made from."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    sources: Sources = field(default_factory=Sources)
    missing: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The last step that was written."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def steps(self) -> int | None:
        """How many steps were wanted; None where the settings do not say."""
        wanted = self.settings.get("training.steps")
        return wanted if isinstance(wanted, int) else None

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The records that measured held-out accuracy."""
        return [record for record in self.metrics if record.get("eval/accuracy") is not None]

    @property
    def command(self) -> str:
        """The command that made the run; empty where it was not written down."""
        argv = self.environment.get("argv")
        words = [str(word) for word in argv] if isinstance(argv, list) else []
        if not words:
            return ""
        head = "klimb" if Path(words[0]).name in ("klimb", "__main__.py") else f"python {shlex.quote(words[0])}"
        return " ".join([head, *map(shlex.quote, words[1:])])

    @property
    def peak_gb(self) -> float | None:
        """The largest memory that any step saw."""
        seen = [record["memory/peak_gb"] for record in self.metrics if record.get("memory/peak_gb") is not None]
        return max(seen, default=None)


def tell(run: RunDir) -> Story:
    """Reads a run directory. Never raises for a part that is missing or broken: that is told in `missing`."""
    story = Story(run.path.resolve().name)
    config = redact(_read(story, "settings", run.config, {}))
    story.settings = flatten(config.get("settings", config))
    story.environment = redact(_read(story, "environment", run.environment, {}))
    story.metrics = [
        _numbers(r) for r in _read(story, "metrics", run.read_metrics, []) if isinstance(r.get("step"), int)
    ]
    story.events = _read(story, "events", run.read_events, [])
    story.samples = _samples(story, run)
    story.sources = sources(story.settings, story.metrics, story.events)
    if len(story.sources.rows) > 1:
        _read(story, "correlations of the sources", partial(correlate, story.sources, run, story.settings), None)
    for what, there in (("environment", story.environment), ("metrics", story.metrics), ("memory", story.peak_gb)):
        if not there and not any(line.startswith(what) for line in story.missing):
            story.missing.append(f"{what}: nothing was written down")
    if not story.evaluations:
        story.missing.append("held-out accuracy: not measured in this run")
    return story


def time_by_stage(metrics: Sequence[Record]) -> list[Stage]:
    """Where the time of all steps went, in the order of a step."""
    per_step = [stages(record) for record in metrics]
    rank = {name: index for index, name in enumerate((*ORDER, "other"))}
    names = sorted({name for row in per_step for name in row}, key=lambda name: (rank.get(name, len(ORDER)), name))
    whole = sum(sum(row.values()) for row in per_step)
    found = [(name, [row[name] for row in per_step if name in row]) for name in names]
    return [Stage(name, sum(each), median(each), sum(each) / whole) for name, each in found if whole]


def _numbers(record: Record) -> dict[str, Any]:
    """Only what is a number, or is known not to have been one (null)."""
    return {name: value for name, value in record.items() if value is None or isinstance(value, (int, float))}


def _read(story: Story, what: str, reader: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return reader()
    except (KlimbError, OSError) as error:
        story.missing.append(f"{what}: {error}")
        return otherwise


def _samples(story: Story, run: RunDir) -> list[Sample]:
    files = sorted(run.evaluations.glob("step-*.parquet")) if run.evaluations.is_dir() else []
    if len(files) < 2:
        story.missing.append(f"samples before and after: {len(files)} evaluations were saved, two are needed")
        return []
    first, last = (
        _read(story, f"samples of {path.name}", partial(rollouts.read, path), []) for path in (files[0], files[-1])
    )
    wanted = story.settings.get("evaluation.threshold")
    threshold = wanted if isinstance(wanted, (int, float)) else 1.0
    after = {group.prompt.id: group for group in last}
    pairs = [
        Sample(
            _asked(group),
            group.prompt.answer,
            _answered(group, threshold),
            _answered(after[group.prompt.id], threshold),
        )
        for group in first
        if group.prompt.id in after
    ]
    return _choose(pairs)


def _choose(pairs: Sequence[Sample]) -> list[Sample]:
    """The first few of each kind: better, worse, still wrong, still right; where there are none of these, any."""
    kinds = (((False, True), 3), ((True, False), 2), ((False, False), 2), ((True, True), 1))
    chosen = [s for kind, most in kinds for s in [p for p in pairs if (p.before.right, p.after.right) == kind][:most]]
    return chosen or list(pairs[:5])


def _asked(group: Group) -> str:
    prompt = group.prompt
    if prompt.messages:
        return "\n".join(f"{message.role}: {message.content}" for message in prompt.messages)
    return prompt.text or ""


def _answered(group: Group, threshold: float) -> Answered:
    rollout = group.rollouts[0]
    right = None if rollout.reward is None else rollout.reward >= threshold
    return Answered(rollout.completion.text, right, len(rollout.completion.tokens))
