"""The run: evaluate, sample, learn, log, save; until the last step, a signal, an alert, or divergence."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from klimb import rollouts
from klimb.batch import Batch
from klimb.errors import Alerted, Diverged, Interrupted
from klimb.generation.base import Sampler
from klimb.rundir import RunDir
from klimb.seeds import seed_of
from klimb.sources.base import Experience, discarded, scored
from klimb.training import believing, checkpoint, state
from klimb.training.base import Checkpoints, Optimizer
from klimb.training.keeping import Keeper
from klimb.training.schedule import learning_rate
from klimb.training.signals import StopFlag, stop_flag
from klimb.training.state import Progress, SaveModel
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.summary import summarise
from klimb.training.tally import Tally
from klimb.types import Group


class Log(Protocol):
    """Where a run's numbers go beside its directory; never raises."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Shows one step's metrics."""
        ...

    def event(self, kind: str, **fields: object) -> None:
        """Tells of something that happened."""
        ...


class Alarm(Protocol):
    """What looks at the metrics while they come."""

    halt: str
    """Why the run should stop; empty where it should not."""

    def observe(self, step: int, line: Mapping[str, Any]) -> None:
        """One step's metrics."""
        ...


Evaluate = Callable[[int], tuple[dict[str, float], Sequence[Group]]]


@dataclass(frozen=True, slots=True)
class Crew:
    """Everything that a run works with, opened."""

    rundir: RunDir
    learner: Learner
    experience: Experience
    sampler: Sampler
    evaluate: Evaluate
    save_model: SaveModel
    schedule: Optimizer
    checkpoints: Checkpoints
    due: Callable[[int, int], bool]
    """Whether to evaluate after a step of so many."""
    seed: int
    log: Log
    watch: Stopwatch
    moved: Callable[[], None] = lambda: None
    """Told that the weights have changed."""
    tidy: Callable[[], None] = lambda: None
    """Gives free memory back to the system, between sampling and learning, whose holes differ."""
    alarm: Alarm | None = None
    """Looks at each step's metrics, and may want the run to stop."""
    keepers: Mapping[str, Keeper] = field(default_factory=dict)
    """What else has a state that goes into every checkpoint, by the name of its file."""
    observe: Callable[[int, float | None], dict[str, float]] = lambda step, loss: {}
    """Told each step's number and loss once it is over: what combines the rewards may learn from it."""


class _Stop(Exception):
    """A signal asked to stop before anything of this step was updated."""


def train(crew: Crew, progress: Progress) -> Progress:
    """Runs from `progress` to the last step; returns where it ended. Raises Interrupted, Alerted or Diverged, saved."""
    steps = crew.learner.settings.steps
    with stop_flag() as flag:
        try:
            if progress.step == 0 and crew.due(0, steps) and not crew.rundir.read_metrics():
                _record(crew, 0, evaluated(crew, 0))
                _halt(crew, progress, saved=False)
            while progress.step < steps:
                _heed(flag)
                progress = _advance(crew, progress, flag)
                if progress.bad >= crew.learner.settings.patience:
                    raise _diverged(crew, progress)
                due = progress.step % crew.checkpoints.every == 0 or progress.step == steps
                if due:
                    save(crew, progress)
                _halt(crew, progress, saved=due)
        except _Stop:
            crew.learner.clear()
            if progress.step and not (crew.rundir.checkpoints / checkpoint.name_of(progress.step)).exists():
                save(crew, progress)
            assert flag.signal is not None
            raise Interrupted(flag.signal, str(crew.rundir.path)) from None
    return progress


def _advance(crew: Crew, progress: Progress, flag: StopFlag) -> Progress:
    """One step: sample, learn, evaluate, log."""
    step = progress.step + 1
    groups = crew.experience.groups(step)
    _heed(flag)
    lr, critic_lr = _rates(crew, step)
    crew.tidy()
    seed, before = seed_of(crew.seed, step), crew.learner.optimizer.count
    tally = learn(crew.learner, Batch.of(groups), lr, seed, crew.watch, lambda: _heed(flag), critic_lr)
    with crew.watch.stage("save"):
        rollouts.write(crew.rundir.rollout(step), groups, step)
        if left := discarded(crew.experience):
            rollouts.write(crew.rundir.discarded(step), left, step)
    moved = crew.learner.optimizer.count - before
    if moved:
        with crew.watch.stage("sync"):
            crew.moved()
            crew.sampler.refresh()
    metrics = tally.metrics() | believing.metrics(tally) | summarise(groups, left, scored(crew.experience))
    metrics |= dict(crew.experience.metrics()) | {"optim/lr": lr} | crew.observe(step, metrics.get("loss"))
    metrics |= {} if critic_lr is None else {"optim/critic_lr": critic_lr}
    if crew.due(step, crew.learner.settings.steps):
        metrics |= evaluated(crew, step)
    _tell_skipped(crew, step, tally)
    _record(crew, step, metrics)
    bad = progress.bad + 1 if tally.stuck else 0 if moved else progress.bad
    return replace(progress, step=step, updates=crew.learner.optimizer.count, bad=bad)


def _rates(crew: Crew, step: int) -> tuple[float, float | None]:
    """The learning rates of a step: the policy's, and that of a critic with a model of its own, where there is one."""
    critic, steps = crew.learner.critic, crew.learner.settings.steps
    own = None if critic is None else learning_rate(critic.schedule, step, steps)
    return learning_rate(crew.schedule, step, steps), own


def _halt(crew: Crew, progress: Progress, saved: bool) -> None:
    """Saves and raises Alerted where an alert wants the run to stop."""
    halt = crew.alarm.halt if crew.alarm else ""
    if not halt:
        return
    if not saved:
        save(crew, progress)
    raise Alerted(
        f"train past step {progress.step}",
        f"an alert: {halt}; saved in {crew.rundir.path}",
        "run the same command again to go on, or with another alerts=[...]",
    )


def evaluated(crew: Crew, step: int) -> dict[str, float]:
    """The metrics of the evaluation after `step`, whose answers are written down."""
    with crew.watch.stage("evaluate"):
        metrics, groups = crew.evaluate(step)
        if groups:
            rollouts.write(crew.rundir.evaluation(step), groups, step)
    return metrics


def _record(crew: Crew, step: int, metrics: dict[str, float]) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    line = metrics | crew.watch.read() | {"memory/peak_gb": peak}
    crew.rundir.append_metrics({"step": step, **line})
    crew.log.log(step, line)
    if crew.alarm:
        crew.alarm.observe(step, line)


def _tell_skipped(crew: Crew, step: int, tally: Tally) -> None:
    for what in tally.skipped:
        crew.log.event("skipped", step=step, what=f"{what} was not finite; the update was not made")


def save(crew: Crew, progress: Progress) -> None:
    """Writes a checkpoint of everything, and removes what is older than `checkpoints.keep`."""
    folder: Path = crew.rundir.checkpoints
    with crew.watch.stage("save"):
        crew.rundir.sync()
        checkpoint.save(
            folder,
            progress.step,
            lambda at: state.write(at, progress, crew.learner.optimizer, crew.save_model, crew.keepers),
        )
        checkpoint.prune(folder, crew.checkpoints.keep)


def _diverged(crew: Crew, progress: Progress) -> Diverged:
    """Goes back to the newest good checkpoint, then says so."""
    good, _ = checkpoint.newest(crew.rundir.checkpoints)
    where = "no checkpoint had been made"
    if good is not None:
        back = state.restore(good, crew.learner.optimizer, crew.keepers)
        crew.moved()
        crew.sampler.refresh()
        where = f"the weights are those of step {back.step} again ({good})"
    crew.log.event("diverged", step=progress.step, where=where)
    return Diverged(
        f"train past step {progress.step}",
        f"{progress.bad} steps in a row were not finite; {where}",
        "look at events.jsonl for what was not finite; lower optimizer.lr or check the rewards",
    )


def _heed(flag: StopFlag) -> None:
    if flag.signal is not None:
        raise _Stop
