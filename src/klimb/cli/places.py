"""What stands behind RUN_OR_MODEL: the newest good checkpoint of a run, or a model by folder or name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.errors import CheckpointError, RunError

if TYPE_CHECKING:
    from klimb.policy.base import PolicySettings
    from klimb.policy.policy import Policy
    from klimb.policy.texts import Texts
    from klimb.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Place:
    """A model to load, and the run's settings and step where it belongs to a run. `notes`: what was passed over."""

    model: str
    recipe: Recipe | None = None
    step: int = 0
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> PolicySettings:
        """The model with the run's settings of it, else the usual ones."""
        from klimb.policy.base import PolicySettings

        return (self.recipe.model if self.recipe else PolicySettings()).at(self.model)

    @property
    def combining(self) -> Path | None:
        """What the run's checkpoint holds of the combining of its rewards; None where it is no run."""
        return None if self.recipe is None else Path(self.model).parent / "combining.safetensors"

    @property
    def before(self) -> Path | None:
        """Where the run's held-out answers from before training are, if it drew any; None where it is no run."""
        from klimb.rundir import RunDir

        return None if self.recipe is None else RunDir(Path(self.model).parents[2]).evaluation(0)


def place(target: str, step: int | None = None) -> Place:
    """What the target names. Raises RunError or CheckpointError where it is a run that has no such good checkpoint."""
    folder = Path(target).expanduser()
    if _is_run(folder):
        return _of_run(folder, step)
    if step is not None:
        raise RunError(
            f"the checkpoint of step {step} of a run", f"{target} is not a run directory", "leave --step out"
        )
    return Place(target)


def opened(target: str) -> Policy:
    """The policy that the target names, loaded. Raises KlimbError."""
    from klimb.policy.loading import load

    where = place(target)
    return load(where.settings, where.recipe.seed if where.recipe else 0)


def texts_of(target: str) -> Texts:
    """How the model that the target names reads and writes text; a reward model will do. Raises KlimbError."""
    from klimb.policy import loading

    return loading.texts_of(place(target).settings)


def scores(target: str) -> bool:
    """Whether what the target names is a reward model that klimb trained. Raises KlimbError."""
    from klimb.policy import reward_head

    return reward_head.is_ours(Path(place(target).model).expanduser())


def _is_run(folder: Path) -> bool:
    return (folder / "checkpoints").is_dir() and (folder / "config.json").is_file()


def _of_run(folder: Path, step: int | None) -> Place:
    from klimb.config import resolve
    from klimb.recipe import Recipe
    from klimb.rundir import RunDir, step_of
    from klimb.training.checkpoint import newest, verified

    rundir = RunDir.open(folder)
    recipe = resolve(Recipe, rundir.settings())
    if step is not None:
        chosen = rundir.checkpoint(step)
        if not chosen.is_dir():
            there = ", ".join(str(step_of(path)) for path in sorted(rundir.checkpoints.glob("step-*"))) or "none"
            raise CheckpointError(
                f"the checkpoint of step {step} of {folder}", f"steps that are there: {there}", "one of them"
            )
        return Place(str(verified(chosen) / "model"), recipe, step)
    good, broken = newest(rundir.checkpoints)
    notes = tuple(f"passed over {one.path.name}: {one.why}" for one in broken)
    if good is None:
        found = "; ".join(notes) or "none was saved yet"
        raise CheckpointError(f"a good checkpoint in {folder}", found, "`klimb train` with the same recipe")
    return Place(str(good / "model"), recipe, step_of(good), notes)
