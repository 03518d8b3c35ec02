"""A recipe: the whole of a run's settings, and the checks between its parts. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from klimb.config import Settings, load
from klimb.data import AnyData
from klimb.errors import KlimbError
from klimb.evaluation.base import Evaluate
from klimb.generation import AnyGenerator
from klimb.generation.base import Sampling
from klimb.generation.local import Local
from klimb.objectives import AnyObjective, AnyPreference, Custom, Objective, validity
from klimb.policy.base import PolicySettings
from klimb.rewards import AnyReward
from klimb.rewards.combining import AnyCombining, misfits
from klimb.rewards.combining.weighted import Weighted
from klimb.selection import AnySelector
from klimb.selection.every import Every
from klimb.sources import AnySource
from klimb.sources.base import Demands
from klimb.sources.online import Online
from klimb.tracking import AnyTracker
from klimb.tracking.alerts import AnyAlert
from klimb.tracking.watching import unmoved, unwatched
from klimb.training.base import AdamW, AnyOptimizer, Checkpoints, NoCorrection, Training


class Recipe(Settings):
    """Everything that a run is made of."""

    model: PolicySettings
    """The language model that learns."""
    data: AnyData
    """The prompts, with answers that can be checked."""
    rewards: tuple[AnyReward, ...] = ()
    """What scores the completions; where the data say what is preferred, the held-out ones alone."""
    combining: AnyCombining = Weighted()
    """How the scores of several sources become one reward."""
    objective: Annotated[AnyObjective | AnyPreference, Field(discriminator="type")]
    """What is maximised, and by which surrogate."""
    selector: AnySelector = Every()
    """Which tokens learn."""
    source: AnySource = Online()
    """Where experience comes from."""
    sampling: Sampling = Sampling()
    """How completions are drawn in training."""
    generator: AnyGenerator = Local()
    """What draws them."""
    optimizer: AnyOptimizer = AdamW()
    """How the weights move."""
    training: Training = Training()
    """How long, and in what parts."""
    evaluation: Evaluate = Evaluate()
    """How often held-out accuracy is measured, and on how many problems."""
    checkpoints: Checkpoints = Checkpoints()
    """How often everything is saved."""
    trackers: tuple[AnyTracker, ...] = ()
    """Where else the numbers go; the run directory always has them."""
    alerts: tuple[AnyAlert, ...] = ()
    """Rules over the metrics: each says a line when it comes true, and may stop the run (exit code 10)."""
    note: str = ""
    """What a reader of the results should know; stands in the report and at the end of the run."""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    """Every random draw depends on this and on names and numbers, never on timing."""
    run: Path | None = None
    """The run directory; by default `runs/<name of the recipe>`."""

    @field_validator("source", mode="before")
    @classmethod
    def _online(cls, value: Any) -> Any:
        """A source without a type is an online one."""
        return {"type": "online", **value} if isinstance(value, dict) else value

    def faults(self) -> list[KlimbError]:
        """What does not fit together, each with its cure."""
        return list(self._faults())

    @property
    def situation(self) -> validity.Situation:
        """What decides whether the objective's gradient is the one it is meant to have."""
        updates, transform = self.source.epochs * self.source.minibatches, self.sampling.transform
        if self.source.replays:
            updates = max(updates, 2)  # off-policy from the first update on
        bent = transform.truncates or transform.forking is not None
        inner: Objective = self.objective
        if isinstance(inner, Custom):
            inner = inner.inner.model_copy(update={"allow_bias": inner.allow_bias or inner.inner.allow_bias})
        return validity.Situation(inner, updates, bent, self.sampling.max_tokens)

    @property
    def demands(self) -> Demands:
        """What the objective and the selector ask of answers that another policy drew."""
        objective, by = self.objective, self.selector.ranks_by
        recorded = by is not None and by.of == "sampling"
        return Demands(objective.type, "groups" in objective.needs, objective.minimum_group, recorded)

    @property
    def scorer(self) -> bool:
        """Whether what learns is a reward model: values alone, of answers that are there already."""
        source = self.source
        return self.objective.critic and not (source.scores and source.speaks(self.objective.reads_logp))

    @property
    def needs_rewards(self) -> bool:
        """Whether something is to be scored: what is learned from, or held-out answers."""
        return self.source.scores and not self.scorer

    def files(self) -> list[Path]:
        """The user's own Python files and fitted models that this recipe runs: part of what a run is, like its data."""
        families = (self.objective, self.selector)
        named = [
            *(getattr(one, "path", None) for one in families),
            *(getattr(one, "path", None) for one in (*self.rewards, self.evaluation.win, self.objective.value_model)),
        ]
        models = [file for path in named if isinstance(path, Path) for file in _files(path.expanduser())]
        return models + [Path(path.rpartition(":")[0]) for path in named if isinstance(path, str) and ".py:" in path]

    def _faults(self) -> Iterator[KlimbError]:
        source, objective = self.source, self.objective
        if not objective.needs <= source.gives:
            yield KlimbError(
                f"{objective.type} reads {', '.join(sorted(objective.needs))}",
                f"source '{source.type}' gives {', '.join(sorted(source.gives))}",
                "choose a source that gives what the objective reads",
            )
        if source.draws and not objective.reads_logp and "groups" not in objective.needs:
            yield KlimbError(
                f"train a model that scores and does not speak ({objective.type})",
                f"source.type={source.type}, which draws answers of that model",
                "source.type=pairs, or source.type=logged_pairs source.logs=RUN, with answers that another run drew",
            )
        if source.completions < objective.minimum_group:
            yield KlimbError(
                f"{objective.type} compares at least {objective.minimum_group} completions of a prompt",
                f"source.completions={source.completions}",
                f"source.completions={objective.minimum_group} or more",
            )
        if source.minibatches > source.prompts:
            yield KlimbError(
                f"cut each batch into {source.minibatches} minibatches by prompts",
                f"source.prompts={source.prompts}",
                f"source.minibatches={source.prompts} or fewer",
            )
        if self.model.lora is not None and self.optimizer.type == "schedule_free":
            found = "optimizer.type=schedule_free, whose checkpoints hold an average of whole weights"
            yield KlimbError("train an adapter (model.lora)", found, "optimizer.type=adamw")
        if (dynamic := getattr(source, "dynamic", 0)) and objective.beyond_group and not objective.allow_bias:
            yield KlimbError(
                f"leave groups of equal rewards out (source.dynamic={dynamic}) under {objective.type}",
                "it compares answers of different prompts, and what is left is not what it states a mean of",
                "source.dynamic=0, or an objective that compares within groups (dapo, grpo, rloo); "
                "objective.allow_bias=true accepts it as it is",
            )
        yield from validity.faults(self.situation)
        yield from unmoved(self.alerts, self.situation.updates, objective.refers, source.speaks(objective.reads_logp))
        yield from self.selector.conflicts(objective.kl_place)
        yield from self._reward_faults()
        corrected = not isinstance(self.training.correction, NoCorrection)
        yield from source.conflicts(corrected, self.sampling, objective.refers)
        if source.sampled(1) != 0 or source.type == "hybrid":
            yield from self._sampling_faults()
        if "groups" not in objective.needs and self.selector.type != "every":
            found = f"selector.type={self.selector.type}, which leaves tokens out"
            yield KlimbError(f"learn from whole answers ({objective.type})", found, "selector.type=every")
        if not self.needs_rewards:
            yield from self._given_faults()

    def _given_faults(self) -> Iterator[KlimbError]:
        """What does not go together with answers that the data give, or with pairs of a log for a reward model."""
        yield from self.evaluation.unread(scored=bool(self.rewards), sampled=not self.scorer)
        if self.source.scores:
            return
        if self.sampling.temperature != 1.0 or self.sampling.transform.truncates or self.sampling.forking:
            yield KlimbError(
                f"learn from given answers by {self.objective.type}",
                "sampling at another temperature than 1, or truncated: the log-probs would be of another policy",
                "sampling.temperature=1.0 sampling.top_p=1.0 sampling.top_k=0 and no sampling.forking",
            )
        if not self.data.answers:
            yield KlimbError(
                f"learn from given answers (source.type={self.source.type})",
                f"data.type={self.data.type}, which has prompts only",
                "data.type=preferences, or hub-preferences",
            )

    def _reward_faults(self) -> Iterator[KlimbError]:
        if self.needs_rewards and not self.rewards:
            asked = f"learn from the rewards of source '{self.source.type}'"
            yield KlimbError(asked, "no rewards", "give at least one in rewards")
            return
        names = [reward.name or reward.type for reward in self.rewards]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield KlimbError(
                "tell reward sources apart by name",
                f"{names.count(name)} sources named '{name}'",
                "give each its own rewards.N.name",
            )
        weights = {name: reward.weight for name, reward in zip(names, self.rewards, strict=True)}
        samples = self.source.scores and self.source.sampled(1) != 0
        yield from unwatched(self.alerts, weights)
        yield from misfits(self.combining, weights, self.source.type, samples=samples)
        if self.needs_rewards and all(reward.weight == 0 for reward in self.rewards):
            yield KlimbError(
                "learn from a reward", "every reward has weight 0", "give at least one source a weight that is not 0"
            )

    def _sampling_faults(self) -> Iterator[KlimbError]:
        if not self.source.replays:  # a log's answers have any length
            yield from self.objective.idle(self.sampling.max_tokens)
        by = self.selector.ranks_by
        if by is not None and by.of == "sampling" and self.generator.type == "http":
            yield KlimbError(
                f"selector.type={self.selector.type} by the sampler's entropy",
                "generator 'http' gives log-probs of the drawn tokens and no entropies",
                "selector.entropy.of=current",
            )
        if self.source.weighs and self.generator.type != "local" and isinstance(self.training.correction, NoCorrection):
            cure = "training.correction.type=truncate, or generator.type=local"
            yield KlimbError(
                f"learn from completions of generator '{self.generator.type}'",
                "another policy draws them, and training.correction.type=none takes them for this policy's own",
                cure if self.source.scores else "generator.type=local",
            )
        if self.sampling.forking is not None and self.generator.type != "local":
            found = f"generator.type={self.generator.type}, which cannot"
            yield KlimbError("sample with two temperatures (sampling.forking)", found, "generator.type=local")
        if self.sampling.temperature == 0:
            found = "sampling.temperature=0 draws the same completion every time"
            yield KlimbError("explore while training", found, "sampling.temperature=1.0")
        if not isinstance(self.training.correction, NoCorrection):
            yield from self.sampling.unweighable()


def _files(path: Path) -> list[Path]:
    """A file, or the files of a folder."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def load_recipe(path: Path | str, *words: str) -> Recipe:
    """The recipe in a YAML file with `key=value` words over it. Raises SettingsError with every fault at once."""
    return load(Recipe, path, words)
