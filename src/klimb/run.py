"""A run from its settings to its report: `train`, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.config import dump
from klimb.errors import KlimbError, ModelError
from klimb.evaluation.accuracy import Exam, correct_source, evaluate, gain_since
from klimb.recipe import Recipe
from klimb.rewards.scoring import name_of
from klimb.rundir import RunDir, step_of
from klimb.session import Session, opened, problems_of
from klimb.sources.base import Supplies, Timer
from klimb.start import Beginning, beginning
from klimb.tracking.hub import Tracking
from klimb.tracking.report import write_report

if TYPE_CHECKING:
    from klimb.policy.policy import Policy
    from klimb.training.loop import Crew
    from klimb.training.state import Progress
    from klimb.training.updater import Updater
    from klimb.types import Group


@dataclass(frozen=True, slots=True)
class RunResult:
    """Where a run stands: its directory, last step, first and last held-out evaluation, report and newest weights."""

    path: Path
    step: int
    before: dict[str, float]
    after: dict[str, float]
    report: Path
    model: Path
    note: str = ""


def train(recipe: Recipe, *, run: Path | str | None = None, fork: str | None = None) -> RunResult:
    """Trains by a recipe, going on by itself where an interrupted run lies in the run directory.

    `run` is the directory (else the recipe's own); `fork` is `RUN@STEP`, whose checkpoint a new run begins from.
    Raises a KlimbError: Interrupted (everything saved), Diverged, RunError (other settings or data), DataError, ...
    """
    correct_source(recipe.evaluation.correct, _sources(recipe))
    problems = problems_of(recipe)
    path = Path(run or recipe.run or "runs/run")
    with ExitStack() as stack:
        begun = stack.enter_context(beginning(recipe, path, problems.fingerprint(), fork))
        if _finished(begun, recipe):
            if not begun.rundir.report_file.exists():
                write_report(begun.rundir)
            return result_of(begun.rundir)
        log = stack.enter_context(Tracking(begun.rundir, recipe.trackers, recipe.training.steps))
        log.start(dump(recipe), step_of(begun.start) if begun.start else 0)
        session = stack.enter_context(opened(recipe, problems))
        try:
            _go(session, begun, log)
        except KlimbError as error:
            log.event("stopped", why=error.line())
            write_report(begun.rundir)
            raise
        write_report(begun.rundir)
        result = result_of(begun.rundir)
        log.finish({"step": result.step, **result.after})
    return result


def result_of(rundir: RunDir) -> RunResult:
    """What a run has reached, read from its directory."""
    lines = rundir.read_metrics()
    found = [line for line in lines if "eval/accuracy" in line]
    saved = sorted(rundir.checkpoints.glob("step-*"))
    return RunResult(
        path=rundir.path,
        step=int(lines[-1]["step"]) if lines else 0,
        before=_eval(found[0]) if found else {},
        after=_eval(found[-1]) if found else {},
        report=rundir.report_file,
        model=saved[-1] / "model" if saved else rundir.path,
        note=str(rundir.config().get("settings", {}).get("note", "")),
    )


def _eval(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if name.startswith("eval/") or name == "step"}


def _finished(begun: Beginning, recipe: Recipe) -> bool:
    return begun.start is not None and step_of(begun.start) >= recipe.training.steps


def _sources(recipe: Recipe) -> dict[str, str]:
    return {name_of(reward): reward.type for reward in recipe.rewards}


def _go(session: Session, begun: Beginning, log: Tracking) -> Progress:
    """Builds the crew, puts a saved state back, and trains."""
    from klimb.training import loop, state
    from klimb.training.updater import open_updater

    log.event("policy", how=session.policy.describe())
    log.event("sampler", how=session.sampler.describe())
    optimizer = open_updater(session.recipe.optimizer, session.policy.named_parameters())
    initial = session.policy.version()
    progress = state.Progress(fingerprint=session.problems.fingerprint(), initial=initial)
    if begun.start is not None:
        progress = replace(state.restore(begun.start, optimizer), fingerprint=progress.fingerprint)
        if progress.initial != initial:
            raise ModelError(
                f"go on with a run that began from the weights {progress.initial}",
                f"{session.recipe.model.name} now holds the weights {initial}",
                "put the model that the run began with back, or start a new run=DIR",
            )
        session.sampler.refresh()
        session.own.refresh()
    return loop.train(_crew(session, begun.rundir, log, optimizer), progress)


def _crew(session: Session, rundir: RunDir, log: Tracking, optimizer: Updater) -> Crew:
    """Everything the loop works with."""
    from klimb.policy.hardware import release_freed_pages
    from klimb.training.loop import Crew
    from klimb.training.step import Learner, Passes
    from klimb.training.stopwatch import Stopwatch
    from klimb.training.updater import at_average

    recipe, policy, watch = session.recipe, session.policy, Stopwatch()
    version = Version(policy)

    def moved() -> None:
        version.moved()
        if session.own is not session.sampler:
            session.own.refresh()

    def examined() -> None:
        version.moved()
        session.own.refresh()

    learner = Learner(
        policy,
        optimizer,
        recipe.objective,
        recipe.selector,
        recipe.training,
        reference=_reference(recipe) if recipe.objective.refers else None,
        passes=Passes(recipe.source.epochs, recipe.source.minibatches),
        comparable=not recipe.sampling.transform.truncates,
    )
    return Crew(
        rundir=rundir,
        learner=learner,
        experience=recipe.source.open(_supplies(session, version, watch.stage)),
        sampler=session.sampler,
        evaluate=at_average(optimizer, Examiner(session, version, rundir), examined),
        save_model=policy.save,
        schedule=recipe.optimizer,
        checkpoints=recipe.checkpoints,
        due=recipe.evaluation.due,
        seed=recipe.seed,
        log=log,
        watch=watch,
        moved=moved,
        tidy=release_freed_pages,
    )


def _supplies(session: Session, version: Callable[[], str], stage: Timer) -> Supplies:
    """What the source of experience works with; completions of another policy have no version that we know."""
    recipe = session.recipe
    return Supplies(
        prompts=session.train,
        sampler=session.sampler,
        sampling=recipe.sampling,
        score_all=session.score_all,
        weights={name_of(reward): reward.weight for reward in recipe.rewards},
        version=version if session.own is session.sampler else lambda: "",
        seed=recipe.seed,
        stage=stage,
    )


def _reference(recipe: Recipe) -> Policy:
    """The initial policy, frozen."""
    from klimb.policy.loading import load

    policy = load(recipe.model, recipe.seed)
    for parameter in policy.parameters():
        parameter.requires_grad_(False)
    return policy


class Version:
    """The content hash of the policy's weights, computed once for each state of them."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._known = policy, ""

    def __call__(self) -> str:
        """The version of the weights as they are."""
        self._known = self._known or self._policy.version()
        return self._known

    def moved(self) -> None:
        """The weights have changed."""
        self._known = ""


class Examiner:
    """Asks the held-out problems."""

    def __init__(self, session: Session, version: Version, rundir: RunDir) -> None:
        self._session, self._version, self._rundir, recipe = session, version, rundir, session.recipe
        self._exam = Exam(session.held_out, _sources(recipe), recipe.evaluation, recipe.sampling, recipe.seed)

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """The metrics and the groups of the evaluation after `step`."""
        session = self._session
        found, groups = evaluate(self._exam, session.own, session.score_all, step, self._version())
        start = self._rundir.evaluation(0)
        gained = gain_since(start, groups, self._exam.settings.threshold) if step else {}
        return found.metrics() | gained, groups
