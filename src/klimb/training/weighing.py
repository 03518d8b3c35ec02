"""How a batch is cut into optimizer steps, and what each of its tokens weighs in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from klimb import functional as F
from klimb.batch import Batch, Outputs
from klimb.errors import GenerationError
from klimb.objectives.base import Objective
from klimb.seeds import permutation, seed_of
from klimb.selection.base import Selector
from klimb.shapes import PerToken, TokenMask
from klimb.training.base import Correction, NoCorrection, Truncate
from klimb.training.selecting import parts_of


@dataclass(frozen=True, slots=True)
class Passes:
    """How often, and in how many optimizer steps, each batch is learned from."""

    epochs: int = 1
    minibatches: int = 1


def minibatches(batch: Batch, passes: Passes, seed: int) -> Iterator[Batch]:
    """The batch `epochs` times, each time cut by prompts, in an order that depends on the seed only."""
    for rows in cuts(batch, passes, seed):
        yield batch if passes.minibatches == 1 else batch.take(rows)


def cuts(batch: Batch, passes: Passes, seed: int) -> Iterator[Tensor]:
    """The rows of each of these; groups of the same prompt (a pair and its samples) are never apart."""
    if passes.minibatches == 1:
        yield from [torch.arange(batch.rows)] * passes.epochs
        return
    names = [tuple(prompt.tolist()) for prompt in batch.prompts]
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    asked = torch.tensor([places[name] for name in names])[batch.group]
    for epoch in range(passes.epochs):
        order = torch.from_numpy(permutation(seed_of("minibatch", seed), epoch, len(places)))
        for prompts in order.tensor_split(passes.minibatches):
            rows = torch.isin(asked, prompts)
            if bool(rows.any()):
                yield torch.nonzero(rows).flatten()


def weigh(batch: Batch, objective: Objective, selector: Selector, tokens: int = 1 << 30) -> Batch:
    """The tokens that learn and their weights, over the whole optimizer step; it runs in parts of `tokens` tokens."""
    keep = selector.keep(batch, parts_of(batch, tokens) if selector.by_parts else None)
    return narrowed(batch, keep, objective, selector, objective.weighting)


def narrowed(
    batch: Batch, keep: TokenMask, objective: Objective, selector: Selector, weighting: Callable[[Batch], PerToken]
) -> Batch:
    """The batch of which the kept tokens learn, with the weights that `weighting` makes of the whole step."""
    part = batch.replace(learn=keep)
    if not selector.narrows:
        return part.replace(weight=weighting(part))
    whole = weighting(batch)
    free = selector.kl == "all" and objective.kl_place == "loss"
    part = part.replace(able=batch.learn, whole=whole, kl_weight=whole if free else None)
    if selector.normaliser == "all":
        return part.replace(weight=torch.where(keep, whole, torch.zeros_like(whole)))
    return part.replace(weight=weighting(part))


def corrected(batch: Batch, now: Outputs, correction: Correction, comparable: bool) -> Batch:
    """Weights times the importance of the trainer's old policy over the sampler's, as the settings say.

    A KL in the loss is a mean over what the sampler drew like all else, so its weights are among them.
    Raises GenerationError where that is asked for and the generator gave no log-probs of the same distribution.
    """
    if isinstance(correction, NoCorrection) or batch.weight is None:
        return batch
    if batch.sampler is None or not comparable:
        raise GenerationError(
            f"correct for the sampler by importance weights (training.correction.type={correction.type})",
            "the generator gave no log-probs of the distribution that the policy is trained at",
            "a generator that gives log-probs, sampling.temperature=1.0, or training.correction.type=none",
        )
    ratio = batch.old_or(now.logp) - batch.sampler
    if correction.level != "token":
        lift = F.importance.product if correction.level == "sequence" else F.importance.geometric
        able = batch.learn if batch.able is None else batch.able  # the whole answer, whatever a selector dropped
        ratio = lift(ratio, able, batch.row, batch.rows)
    if isinstance(correction, Truncate):
        factor = F.importance.truncated(ratio, correction.cap)
    else:
        factor = F.importance.masked(ratio, correction.low, correction.high)
    weights = {name: getattr(batch, name) for name in ("weight", "whole", "kl_weight")}
    return batch.replace(**{name: weight * factor for name, weight in weights.items() if weight is not None})
