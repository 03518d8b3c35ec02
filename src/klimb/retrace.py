"""What a step of a run learned by, made again from what the run wrote down; what cannot be known is named, not shown.

Advantages need what was carried into the step (metrics.jsonl has it) and, under a KL in the reward, the policy that
drew and the reference (checkpoints have them). Kept tokens are chosen on each optimizer step's tokens, as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.objectives.carried import BASELINE, COEFFICIENT
from klimb.recipe import Recipe
from klimb.rundir import RunDir, step_of

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.batch import Batch
    from klimb.policy.policy import Policy

INITIAL = "initial"
AGE = "policy/reference_age"


class Unknown(ValueError):
    """Says what a run did not keep."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run. `before` gives the policy that drew it and `initial` the initial one, None where it is gone."""

    rundir: RunDir
    recipe: Recipe
    step: int
    before: Callable[[], Policy | None]
    initial: Callable[[], Policy | None]

    def learning(self, batch: Batch, values: dict[str, Any], missing: list[str]) -> list[bool]:
        """Fills `advantage` and `kept` in the values; whether each row had a gradient, nothing where it is not known.

        With several passes over the batch, this is the first of them.
        """
        import numpy as np

        batch = batch.replace(learn=batch.scored[batch.row])
        try:
            batch = self._advantages(batch)
            values["advantage"] = batch.advantage.numpy()  # type: ignore[union-attr]
        except ValueError as error:
            missing.append(f"advantages ({error})")
        try:
            keep, live = self._kept(self._ranked(batch))
        except ValueError as error:
            missing.append(f"kept tokens ({error})")
            return []
        values["kept"] = keep.numpy().astype(np.float32)
        return [bool(row) for row in live.tolist()] if live is not None else []

    def _advantages(self, batch: Batch) -> Batch:
        objective, passes = self.recipe.objective, self.recipe.source.epochs * self.recipe.source.minibatches
        if "groups" not in objective.needs:
            raise Unknown(f"{objective.type} learns from preferences and has none")
        if objective.critic:
            raise Unknown("the critic's values before the step are not recorded")
        batch = batch.replace(carried=carried_into(self.recipe, self.rundir.read_metrics(), self.step))
        if objective.reads_old:
            batch = batch.replace(old=self._old(batch), ref=self._reference(batch))
        elif passes > 1:
            batch = batch.replace(old=batch.sampler if batch.sampler is not None else batch.tokens.float())
        return objective.advantage(batch)

    def _old(self, batch: Batch) -> Tensor:
        """The log-probs of the policy that drew, in the trainer's arithmetic where it is there, else the sampler's."""
        from klimb.training.reference import measure

        if (policy := self.before()) is not None:
            return measure(policy, batch, self.recipe.training.micro_tokens)
        if batch.sampler is None or self.recipe.generator.type != "local":
            raise Unknown("the KL in the reward needs the policy before the step, of which there is no checkpoint")
        return batch.sampler

    def _reference(self, batch: Batch) -> Tensor:
        from klimb.training.reference import measure

        refreshed = self.recipe.objective.carried.refresh is not None or self.recipe.source.renews
        held = reference_of(self.rundir, self.step) if refreshed else INITIAL
        if held is None:
            raise Unknown("the reference was refreshed, and no checkpoint holds the one of this step")
        policy = self.initial() if held == INITIAL else _with_weights(self.recipe, Path(held))
        if policy is None:
            raise Unknown("the initial model, which is the reference, is gone")
        return measure(policy, batch, self.recipe.training.micro_tokens)

    def _ranked(self, batch: Batch) -> Batch:
        """The batch with the entropies that ranked its tokens."""
        from klimb.training.reference import outputs

        by = self.recipe.selector.ranks_by
        if by is None or by.of == "sampling":
            if by is not None and batch.entropy is None:
                raise Unknown("the sampler's entropies, which ranked them, are not recorded")
            return batch
        if self.recipe.source.minibatches > 1:
            raise Unknown("entropy.of=current with several minibatches: the policy moved between them")
        if (policy := self.before()) is None:
            raise Unknown("entropy.of=current ranks by the policy before the step, of which there is no checkpoint")
        asked = batch.replace(temperature=by.temperature or batch.temperature)
        return batch.replace(entropy=outputs(policy, asked, self.recipe.training.micro_tokens).entropy)

    def _kept(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The kept tokens, and the rows with a gradient where the advantages are known."""
        import torch

        from klimb.seeds import seed_of
        from klimb.training.weighing import Passes, cuts, weigh

        recipe, keep = self.recipe, torch.zeros_like(batch.learn)
        live = torch.zeros(batch.rows, dtype=torch.bool)
        passes = Passes(1, recipe.source.minibatches)
        for rows in cuts(batch, passes, seed_of(recipe.seed, self.step)):
            part = batch.take(rows)
            weighed = weigh(part, recipe.objective, recipe.selector, recipe.training.micro_tokens)
            keep[torch.isin(batch.row, rows)] = weighed.learn
            if batch.advantage is not None:
                live[rows] = recipe.objective.live(weighed)
        return keep, None if batch.advantage is None else live


def carried_into(recipe: Recipe, lines: list[dict[str, Any]], step: int) -> dict[str, float]:
    """The numbers that the step's batch was given, as the run wrote them down. Raises Unknown where it did not."""
    wanted = recipe.objective.carried
    names = {BASELINE: "objective/baseline"} if wanted.decay is not None else {}
    names |= {COEFFICIENT: "objective/kl_coefficient"} if wanted.control is not None else {}
    line: Mapping[str, Any] = next((line for line in lines if line["step"] == step), {})
    for metric in names.values():
        if line.get(metric) is None:
            raise Unknown(f"metrics.jsonl has no {metric} for step {step}")
    return {name: float(line[metric]) for name, metric in names.items()}


def reference_of(rundir: RunDir, step: int) -> str | None:
    """The file with the weights of the reference that step `step` was compared with, `initial`, or None: not known.

    A checkpoint's file tells it where no line of metrics between the two says that the reference was refreshed.
    """
    from klimb.training import checkpoint

    ages = {line["step"]: int(line[AGE]) for line in rundir.read_metrics() if line.get(AGE) is not None}
    for folder in checkpoint.steps(rundir.checkpoints):
        file, at = folder / "reference.safetensors", step_of(folder)
        if not file.is_file() or checkpoint.fault(folder, (file.name,)) is not None:
            continue
        age, weights = _held(file)
        between = range(at + 2, step + 1) if at < step else range(step + 1, at + 1)
        if not any(ages.get(one) == 1 for one in between) and not (at >= step and age == 0):
            return str(file) if weights else INITIAL
    fresh = [one for one, age in ages.items() if age == 1 and one <= step]
    unforked = rundir.config().get("fork") is None
    return INITIAL if unforked and fresh == [min(ages, default=-1)] else None


def _held(file: Path) -> tuple[int, bool]:
    """The age that a checkpoint's reference has, and whether its weights are there."""
    from safetensors import safe_open

    from klimb.training.references import WEIGHT

    with safe_open(file, "pt") as held:
        return int(held.get_tensor("age")), any(name.startswith(WEIGHT) for name in list(held.keys()))


def _with_weights(recipe: Recipe, file: Path) -> Policy:
    """The recipe's model with the weights of a checkpoint's reference."""
    import torch
    from safetensors.torch import load_file

    from klimb.policy.loading import load
    from klimb.training.references import WEIGHT

    policy, held = load(recipe.model, recipe.seed), load_file(file)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            weight.copy_(held[WEIGHT + name])
    return policy
