"""How a run begins: new, continued after an interruption, or forked from another run's checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from safetensors import safe_open

from klimb import __version__
from klimb.atomic import write_atomic
from klimb.config import changed, dump
from klimb.digests import sha256_of
from klimb.environment import environment
from klimb.errors import CheckpointError, RunError
from klimb.recipe import Recipe
from klimb.rundir import RunDir, pretty, step_of
from klimb.training import checkpoint
from klimb.training.updater import another_optimizer, not_averaged

FREE = ("run", "note", "trackers", "checkpoints", "alerts")
"""Settings that change nothing about what is learned, and so may differ when a run goes on."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a run begins: `start` is the checkpoint to go on from (None = from nothing)."""

    rundir: RunDir
    recipe: Recipe
    """The settings, with the day on which the run began."""
    start: Path | None
    forked: bool = False
    """Whether that is another run's checkpoint."""


@contextmanager
def beginning(recipe: Recipe, path: Path, data: str, fork: str | None) -> Iterator[Beginning]:
    """Owns the run directory while inside, made or found; everything later than the starting checkpoint is forgotten.

    Raises RunError where the run that is there has other settings or data, CheckpointError where a fork has no source.
    """
    fresh = not RunDir(path).exists
    if fork and not fresh:
        raise RunError(f"fork {fork} into {path}", "a run is there", "name another run=DIR")
    origin = _origin(fork) if fork else None
    if fork and origin:
        _check_optimizer(recipe, fork, origin)
        _check_average(recipe, origin)
    recipe = _dated(recipe, _parent(fork) if fork else None if fresh else RunDir.open(path))
    files = {str(file): _content(file) for file in recipe.files()}
    critic = _critic(recipe, files)
    config = {
        "settings": dump(recipe),
        "data": data,
        "klimb": __version__,
        "fork": fork,
        "files": files,
        "critic": critic,
    }
    rundir = RunDir.create(path, config, environment()) if fresh else RunDir.open(path)
    with rundir.own():
        if not fresh:
            fork = rundir.config().get("fork")
            _check_same(rundir, recipe, config | {"fork": fork})
        checkpoint.sweep(rundir.checkpoints)
        start, broken = checkpoint.newest(rundir.checkpoints)
        if start is None and broken and not fork:
            raise CheckpointError(
                f"go on with the run in {path}",
                "; ".join(f"{one.path.name} is broken: {one.why}" for one in broken),
                "restore one of them, or start again in a new run=DIR",
            )
        if start is None and fork:
            for one in broken:
                checkpoint.set_aside(one)
            broken = []
            start = checkpoint.adopt(origin or _origin(fork), rundir.checkpoints, _left_behind(fork, critic))
            rundir.event("forked", origin=fork)
        for one in broken:
            place = checkpoint.set_aside(one)
            rundir.event("broken_checkpoint", checkpoint=one.path.name, why=one.why, kept_as=place.name)
        rundir.truncate_after(step_of(start) if start else -1)
        rundir.event("started", checkpoint=start.name if start else None, environment=environment())
        forked = bool(fork) and start is not None and step_of(start) == int(str(fork).rpartition("@")[2])
        yield Beginning(rundir, recipe, start, forked)


def _dated(recipe: Recipe, before: RunDir | None) -> Recipe:
    """The recipe with what a chat template is told of the date: its own, else that of the run before, else today.

    So a run asks the same prompts however often it goes on, and a fork those of its parent.
    """
    if recipe.model.date is not None:
        return recipe
    known = before.settings().get("model", {}).get("date") if before else None
    day = date.fromisoformat(known) if known else datetime.now().astimezone().date()
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"date": day})})


def _parent(fork: str) -> RunDir:
    """The run that `RUN@STEP` names."""
    return RunDir.open(fork.rpartition("@")[0])


def _origin(fork: str) -> Path:
    """The verified checkpoint that `RUN@STEP` names."""
    run, at, step = fork.rpartition("@")
    if not at or not step.isascii() or not step.isdigit():
        raise RunError(f"fork from '{fork}'", "no RUN@STEP", "for example --fork runs/demo@40")
    folder = RunDir.open(run).checkpoint(int(step))
    if not folder.is_dir():
        there = [path.name for path in checkpoint.steps(folder.parent)]
        raise CheckpointError(
            f"fork from step {step} of {run}", f"the checkpoints there are {there}", "name one of them"
        )
    return checkpoint.verified(folder)


def _check_optimizer(recipe: Recipe, fork: str, origin: Path) -> None:
    """Refuses a fork under another optimizer than that of the run that it goes on from, before it has a directory."""
    before, now = _parent(fork).settings().get("optimizer", {}).get("type"), recipe.optimizer.type
    if before not in (None, now):
        raise another_optimizer(origin, f"is {before}'s and not {now}'s")


def _check_average(recipe: Recipe, origin: Path) -> None:
    """Refuses a fork with weights that have no part in the average that it goes on with, before it has a directory.

    A value head, and the output layer that a reward model has none of.
    """
    from klimb.policy.loading import output_of

    if recipe.optimizer.type != "schedule_free":
        return
    headed = recipe.objective.critic and recipe.objective.value_model is None
    if headed and not (origin / "critic.safetensors").is_file():
        raise not_averaged("critic.bias")
    averaged = {name[2:] for name in _names(origin / "optimizer.safetensors") if name.startswith("y.")}
    speaks = recipe.source.speaks(recipe.objective.reads_logp)
    if averaged and speaks and (lacking := output_of(recipe.model) - averaged):
        raise not_averaged(min(lacking))


def _names(path: Path) -> list[str]:
    """The names of the tensors in a safetensors file; none is read."""
    with safe_open(str(path), framework="numpy") as held:
        return list(held.keys())


def _critic(recipe: Recipe, files: Mapping[str, str]) -> dict[str, str] | None:
    """What a critic with a model of its own begins as: a folder's files, or nothing but the policy; None without one.

    It stands in config.json, so that a fork knows whether it goes on with the same critic, wherever that lies.
    """
    wanted = recipe.objective.value_model
    if wanted is None or wanted.path is None:
        return None if wanted is None else {}
    folder = wanted.path.expanduser()
    return {Path(file).name: held for file, held in files.items() if Path(file).parent == folder} or {str(folder): ""}


def _left_behind(fork: str, critic: Mapping[str, str] | None) -> list[str]:
    """The files of its checkpoint that a fork whose critic begins as this does not go on from: another critic's."""
    before = _parent(fork).config().get("critic")
    return [] if before == critic else ["value_model.safetensors"]


def _check_same(rundir: RunDir, recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Refuses to go on with other settings or data than the run began with; writes down changes that are free."""
    before, settings = rundir.config(), rundir.settings()
    if not rundir.read_metrics() and not checkpoint.steps(rundir.checkpoints):
        write_atomic(rundir.config_file, pretty(config))  # it ended before anything was done: nothing is lost
        return
    differences = {
        name: pair for name, pair in changed(settings, config["settings"]).items() if name.partition(".")[0] not in FREE
    }
    if _only_longer(differences, recipe):
        differences.clear()
    for file, content in config["files"].items():
        if (old := before.get("files", {}).get(file, content)) != content:
            differences[f"the file {file}"] = (old[:12], content[:12])
    if before.get("data") != config["data"]:
        differences["the content of the data"] = (str(before.get("data"))[:12], str(config["data"])[:12])
    if differences:
        lines = "; ".join(f"{name}: {old} -> {new}" for name, (old, new) in differences.items())
        raise RunError(
            f"go on with the run in {rundir.path}",
            f"it began with other settings or data ({lines})",
            "use the settings it began with, a new run=DIR, or --fork RUN@STEP to start from its weights",
        )
    if before != config:
        rundir.event("changed", settings=sorted(changed(settings, config["settings"])))
        write_atomic(rundir.config_file, pretty(config))


def _content(file: Path) -> str:
    """The hash of a file; empty where it cannot be read, which is said when it is used."""
    try:
        return sha256_of(file)
    except OSError:
        return ""


def _only_longer(differences: Mapping[str, tuple[Any, Any]], recipe: Recipe) -> bool:
    """Whether the only change is more steps under a learning rate that does not depend on their number."""
    if set(differences) != {"training.steps"} or recipe.optimizer.schedule != "constant":
        return False
    old, new = differences["training.steps"]
    return bool(new > old)
