"""Opens what a lens looks at: steps of a run, or a file of completions, each with the policies that can measure it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from klimb import rollouts
from klimb.config import resolve
from klimb.errors import KlimbError, RunError
from klimb.lens.completions import groups_of, items_of
from klimb.lens.course import some, spaced
from klimb.lens.view import Scorers, View, look
from klimb.lens.words import Words
from klimb.policy.base import PolicySettings
from klimb.recipe import Recipe
from klimb.records import used
from klimb.retrace import Step
from klimb.rundir import RunDir, step_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from klimb.lens.statistics import Overlap
    from klimb.policy.policy import Policy
    from klimb.types import Group

READ = ("model/", "state.json")
"""What a lens reads of a checkpoint; moments, which are most of it, are not."""


@dataclass(slots=True)
class Models:
    """The policies that have been loaded, each once; None where one cannot be, which is told once.

    And the checkpoints that have been looked at: whether what a lens reads of them is as it was written. Hashes are
    made beside other work, in a thread.
    """

    known: dict[str, Policy | None] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    sound: dict[Path, Future[str | None]] = field(default_factory=dict)
    aside: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def look_at(self, folder: Path) -> Future[str | None]:
        """Begins to read a checkpoint through: its fault, None where it has none."""
        from klimb.training import checkpoint

        if folder not in self.sound:
            self.sound[folder] = self.aside.submit(checkpoint.fault, folder, READ)
        return self.sound[folder]

    def good(self, folder: Path) -> bool:
        """Whether a checkpoint can be read."""
        return self.look_at(folder).result() is None

    def load(self, settings: PolicySettings, seed: int = 0) -> Policy | None:
        """The policy that the settings name."""
        from klimb.policy.loading import load

        key = self._key(settings, seed)
        if key not in self.known:
            try:
                self.known[key] = load(settings, seed, like=next(filter(None, self.known.values()), None))
            except KlimbError as error:
                self.known[key], self.faults[key] = None, error.line()
        return self.known[key]

    def why(self, settings: PolicySettings, seed: int = 0) -> str:
        """Why that policy is None."""
        return self.faults.get(self._key(settings, seed), "")

    @staticmethod
    def _key(settings: PolicySettings, seed: int) -> str:
        return f"{settings.name} {seed if settings.name == 'tiny' else ''}"


def run_views(
    path: Path, step: int | None = None, *, against: Path | None = None, against_step: int | None = None
) -> list[View]:
    """The view of a step of a run (the newest by default) and, where asked for, one of another step or run beside it.

    Raises RunError or DataError where there are no such rollouts; a model that cannot be loaded is only missing.
    """
    models, first = Models(), _Run.open(path)
    step = first.steps()[-1] if step is None else step
    asked = [(first, step)]
    if against is not None:
        other = _Run.open(against)
        asked.append((other, step if against_step is None and step in other.steps() else other.nearest(against_step)))
    elif against_step is not None:
        asked.append((first, against_step))
    read = [(run, at, run.read(at)) for run, at in asked]  # all that can be wrong is found before a model is loaded
    return [run.view(at, groups, models, course=place == 0) for place, (run, at, groups) in enumerate(read)]


def file_view(path: Path, model: str) -> View:
    """The view of a file of prompts and completions under a model. Raises DataError, ModelError."""
    from klimb.policy.loading import load

    items = items_of(path)
    policy = load(PolicySettings(name=model))
    groups = groups_of(items, policy)
    return look(path.name, groups, Scorers(policy, model, words=Words(policy.tokenizer), drew=True))


@dataclass(frozen=True, slots=True)
class _Run:
    """A run as a lens sees it."""

    rundir: RunDir
    recipe: Recipe

    @classmethod
    def open(cls, path: Path) -> _Run:
        rundir = RunDir.open(path)
        return cls(rundir, resolve(Recipe, rundir.settings()))

    def steps(self) -> list[int]:
        """The steps whose rollouts are there, in order."""
        found = sorted(step_of(path) for path in used(self.rundir.rollouts))
        if not found:
            raise RunError(f"rollouts in {self.rundir.path}", "none yet", "`klimb train` with its recipe")
        return found

    def nearest(self, step: int | None) -> int:
        return self.steps()[-1] if step is None else step

    def read(self, step: int) -> list[Group]:
        """The rollouts of a step."""
        steps = self.steps()
        if step not in steps:
            there = f"steps {steps[0]} to {steps[-1]}" if steps else "none"
            raise RunError(f"the rollouts of step {step} of {self.rundir.path}", there, "one of them")
        return rollouts.read(self.rundir.rollout(step))

    def view(self, step: int, groups: list[Group], models: Models, *, course: bool) -> View:
        """The step as measured by the first policy that was saved after it, beside the initial one."""
        missing: list[str] = []
        initial = self._initial(step, models, missing)
        policy, label, drew = self._policy(step, models, initial, missing)
        one = policy or initial
        tokenizer = one.tokenizer if one is not None else self._tokenizer(step, models)
        if tokenizer is None:
            missing.append("the tokens as texts (no tokenizer could be loaded): their numbers are shown")
        before = partial(self._before, step, models, initial)
        traced = Step(self.rundir, self.recipe, step, before=before, initial=lambda: initial)
        beside = initial if self.recipe.objective.reads_logp else None
        scorers = Scorers(policy, label, beside, traced.learning, Words(tokenizer), drew)
        view = look(f"{self.rundir.path.resolve().name}, step {step}", groups, scorers, missing)
        return replace(view, overlaps=self._overlaps(step, view, initial if course else None))

    def _policy(
        self, step: int, models: Models, initial: Policy | None, missing: list[str]
    ) -> tuple[Policy | None, str, bool]:
        """The policy that measures a step, its name, and whether it is the one that drew."""
        if not (objective := self.recipe.objective).reads_logp:
            missing.append(f"log-probs after the update and KL ({objective.type} trains values, and none of them)")
            return initial, "" if initial is None else "the initial policy", True
        if (folder := self._saved(step, models)) is not None:
            saved, settings = step_of(folder), self._at(folder)
            if (policy := models.load(settings)) is not None:
                same = saved == step - 1 and self.recipe.optimizer.type != "schedule_free"  # which saves an average
                return policy, f"the policy after step {saved}", same
            why = models.why(settings)
        elif step == 1 and initial is not None:
            return initial, "the initial policy", True
        else:
            why = "no checkpoint of this run can be read"
        missing.append(f"log-probs after the update, ratio, KL and alternatives ({why})")
        return None, "", False

    def _tokenizer(self, step: int, models: Models) -> PreTrainedTokenizerBase | None:
        """The tokenizer that was saved with the policy that would measure a step."""
        from klimb.policy.loading import tokenizer_of

        folder = self._saved(step, models)
        return None if folder is None else tokenizer_of(str(folder), folder / "model")

    def _before(self, step: int, models: Models, initial: Policy | None) -> Policy | None:
        """The policy that drew a step; None where no checkpoint holds it."""
        if step == 1:
            return initial
        folder = self.rundir.checkpoint(step - 1)
        averaged = self.recipe.optimizer.type == "schedule_free"  # whose checkpoints hold another point
        return models.load(self._at(folder)) if not averaged and models.good(folder) else None

    def _at(self, folder: Path) -> PolicySettings:
        return self.recipe.model.at(folder / "model")

    def _saves(self, step: int) -> list[Path]:
        """The checkpoints, those first that are to measure a step: the ones after it, then the newest before it."""
        from klimb.training import checkpoint

        saves = checkpoint.steps(self.rundir.checkpoints)
        return [p for p in saves if step_of(p) >= step] + [p for p in reversed(saves) if step_of(p) < step]

    def _saved(self, step: int, models: Models) -> Path | None:
        """The first of them that can be read."""
        return next(filter(models.good, self._saves(step)), None)

    def _initial(self, step: int, models: Models, missing: list[str]) -> Policy | None:
        """The model that the run began from, if it is still there and still the same."""
        import torch

        from klimb.training import state

        settings, seed = self.recipe.model, self.recipe.seed
        for folder in self._saves(step)[:1]:
            models.look_at(folder)
        policy = models.load(settings, seed)
        if policy is None:
            missing.append(f"KL to the initial model ({models.why(settings, seed)})")
            return None
        saved = self._saved(step, models)
        began = state.read_progress(saved) if saved else state.Progress()
        kinds = (None, torch.bfloat16)  # in float32 here, the weights may be those of a run in bfloat16
        versions = ((policy.version(kind), policy.output_version(kind)) for kind in kinds)
        same = models.aside.submit(lambda: not began.initial or any(began.began_as(*one) for one in versions))
        if saved is not None and self.recipe.objective.reads_logp:
            models.load(self._at(saved))  # wanted next, and ready by the time that the hash is
        if not same.result():
            missing.append(f"KL to the initial model ({settings.name} now holds other weights than the run began with)")
            return None
        return policy

    def _overlaps(self, step: int, view: View, initial: Policy | None) -> dict[str, Overlap]:
        """How much of the top-entropy set is that of the initial policy: at other steps of the run, and here."""
        from klimb.batch import Batch
        from klimb.lens import statistics
        from klimb.lens.measure import entropies

        found: dict[str, Overlap] = {}
        if initial is None:
            return found
        for other in spaced([at for at in self.steps() if at != step]):
            batch = some(Batch.of(self.read(other)))
            if batch.entropy is not None and batch.temperature > 0:
                share = statistics.overlap(batch.entropy.numpy(), entropies(initial, batch))
                found |= {} if share is None else {str(other): share}
        if {"entropy", "initial_entropy"} <= set(view.values):
            share = statistics.overlap(view.values["entropy"], view.values["initial_entropy"])
            found |= {} if share is None else {str(step): share}
        return dict(sorted(found.items(), key=lambda pair: int(pair[0])))
