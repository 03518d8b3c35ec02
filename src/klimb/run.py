"""A run from its settings to its report: `train`, and what it gives back."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.config import dump
from klimb.crew import open_crew
from klimb.critic import add_critic
from klimb.errors import KlimbError, ModelError
from klimb.evaluation.accuracy import correct_source
from klimb.examiner import draw_first, sources_of
from klimb.recipe import Recipe
from klimb.rundir import RunDir, step_of
from klimb.session import Session, check_logs, opened, problems_of
from klimb.start import Beginning, beginning
from klimb.tracking.hub import Tracking
from klimb.tracking.report import write_report

if TYPE_CHECKING:
    from klimb.training.loop import Crew
    from klimb.training.state import Progress
    from klimb.training.updater import Updater


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
    if recipe.needs_rewards:
        correct_source(recipe.evaluation.correct, sources_of(recipe))
    problems = problems_of(recipe)
    check_logs(recipe)
    path = Path(run or recipe.run or "runs/run")
    with ExitStack() as stack:
        begun = stack.enter_context(beginning(recipe, path, problems.fingerprint() + recipe.source.fingerprint(), fork))
        recipe = begun.recipe
        if _finished(begun, recipe):
            if not begun.rundir.report_file.exists():
                write_report(begun.rundir)
            return result_of(begun.rundir)
        log = stack.enter_context(Tracking(begun.rundir, recipe.trackers, recipe.training.steps))
        log.start(dump(recipe), step_of(begun.start) if begun.start else 0)
        session = stack.enter_context(opened(recipe, problems, win=True, learns=True))
        try:
            _go(session, begun, log)
        except KlimbError as error:
            _account(session, log)
            log.event("stopped", why=error.line())
            write_report(begun.rundir)
            raise
        _account(session, log)
        write_report(begun.rundir)
        result = result_of(begun.rundir)
        log.finish({"step": result.step, **result.after})
    return result


def _account(session: Session, log: Tracking) -> None:
    """What each source of reward has cost, as events, and what says who wins."""
    for source, cost in session.costs.items():
        log.event("reward_cost", source=source, **cost)


def result_of(rundir: RunDir) -> RunResult:
    """What a run has reached, read from its directory."""
    lines = rundir.read_metrics()
    found = [line for line in lines if any(name.startswith("eval/") for name in line)]
    saved = sorted(rundir.checkpoints.glob("step-*"))
    return RunResult(
        path=rundir.path,
        step=int(lines[-1]["step"]) if lines else 0,
        before=_eval(found[0]) if found else {},
        after=_eval(found[-1]) if found else {},
        report=rundir.report_file,
        model=saved[-1] / "model" if saved else rundir.path,
        note=str(rundir.settings().get("note", "")),
    )


def _eval(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if name.startswith("eval/") or name == "step"}


def _finished(begun: Beginning, recipe: Recipe) -> bool:
    return begun.start is not None and step_of(begun.start) >= recipe.training.steps


def _check_initial(session: Session, began: Progress, now: Progress) -> None:
    if began.began_as(now.initial, now.output):
        return
    what, old, new = "weights", began.initial, now.initial
    if old == new:
        what, old, new = "output layer", began.output, now.output
    raise ModelError(
        f"go on with a run that began from the {what} {old}",
        f"{session.recipe.model.name} now holds the {what} {new}",
        "put the model that the run began with back, or start a new run=DIR",
    )


def _restored(
    session: Session, begun: Beginning, log: Tracking, crew: Crew, optimizer: Updater, fresh: Progress
) -> Progress:
    """Puts the saved state back that a run begins from. Raises CheckpointError or ModelError where it does not fit."""
    from klimb.policy.output import own_output
    from klimb.training import loop, state
    from klimb.training.keeping import is_own

    assert begun.start is not None
    _check_initial(session, state.read_progress(begun.start), fresh)
    lacking = session.win is not None and not begun.rundir.evaluation(0).is_file()
    first = {name: w.detach().clone() for name, w in session.policy.named_parameters()} if lacking else {}
    anew: list[str] = []
    keepers = {name: one for name, one in crew.keepers.items() if not (begun.forked and is_own(one))}
    output = own_output(session.policy.model)
    restored = state.restore(begun.start, optimizer, keepers, anew if begun.forked else None, output)
    anew += sorted(crew.keepers.keys() - keepers.keys())
    progress = replace(restored, fingerprint=fresh.fingerprint, output=restored.output or fresh.output)
    if lacking:  # drawn only now, that the checkpoint is known to fit
        log.event("first_answers", of="the initial policy, for evaluation.win: a fork has none")
        draw_first(session, begun.rundir, first)
    session.sampler.refresh()
    crew.moved()
    if anew:
        fork = begun.rundir.config()["fork"]
        log.event("begun_anew", what=anew, why=f"{fork} knows nothing of it, or only for its own data and settings")
        loop.save(crew, progress)  # in place of the checkpoint it was forked from, which lacks them
    return progress


def _go(session: Session, begun: Beginning, log: Tracking) -> Progress:
    """Builds the crew, puts a saved state back, and trains."""
    from klimb.training import loop, state
    from klimb.training.updater import open_updater

    session, critic = add_critic(session)
    log.event("policy", how=f"{session.policy.describe()}{critic}")
    log.event("sampler", how=session.sampler.describe())
    for source, note in getattr(session.score_all, "notes", {}).items():
        log.event("reward", source=source, how=note)
    optimizer = open_updater(session.recipe.optimizer, session.policy.named_parameters())
    initial, output = session.policy.version(), session.policy.output_version()
    progress = state.Progress(fingerprint=session.problems.fingerprint(), initial=initial, output=output)
    crew = open_crew(session, begun.rundir, log, optimizer)
    if describe := getattr(crew.experience, "describe", None):
        log.event("source", how=describe())
    if begun.start is not None:
        progress = _restored(session, begun, log, crew, optimizer, progress)
    return loop.train(crew, progress)
