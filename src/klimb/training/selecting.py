"""Which tokens of an optimizer step learn: the entropies that rank them, and what the selector did, in numbers."""

from __future__ import annotations

from dataclasses import replace

import torch

from klimb import functional as F
from klimb.batch import Batch, Outputs
from klimb.errors import GenerationError
from klimb.objectives.base import Objective
from klimb.selection.base import Selector
from klimb.shapes import TokenRows
from klimb.training.reference import Forward, outputs
from klimb.training.tally import Tally


def reads_current(selector: Selector, temperature: float) -> bool:
    """Whether the selector ranks by what any forward pass of the current policy over the batch gives."""
    by = selector.ranks_by
    return by is not None and by.of == "current" and by.temperature in (None, temperature)


def ranked(batch: Batch, selector: Selector, policy: Forward, tokens: int) -> Batch:
    """The batch with the entropies that the selector ranks by: the sampler's, or those of the policy as it is now.

    Raises GenerationError where the sampler was to record them and did not.
    """
    by = selector.ranks_by
    if by is None:
        return batch
    if by.of == "current":
        asked = batch.replace(temperature=by.temperature or batch.temperature)
        return batch.replace(entropy=outputs(policy, asked, tokens).entropy)
    if batch.entropy is None:
        raise GenerationError(
            f"select tokens by the sampler's entropy (selector.type={selector.type})",
            "the generator gave completions without entropies",
            "selector.entropy.of=current",
        )
    return batch


def parts_of(batch: Batch, tokens: int) -> TokenRows:
    """The number of the part of each token, as `Batch.split` cuts the whole step; dead rows leave it only later."""
    numbers = [torch.full_like(part.tokens, number) for number, part in enumerate(batch.split(tokens))]
    return torch.cat(numbers) if numbers else batch.row


def tell(tally: Tally, before: Batch, after: Batch, selector: Selector) -> None:
    """Counts what the selector kept of an optimizer step's learning tokens, and their entropies."""
    if not selector.narrows:
        return
    keep = after.learn
    tally.count("learning", int(before.learn.sum()))
    tally.count("kept", int(keep.sum()))
    if before.advantage is not None:
        live = F.segments.any_by(before.learn & (before.advantage != 0), before.row, before.rows)[before.row]
        tally.count("learning_live", int((before.learn & live).sum()))
        tally.count("kept_live", int((keep & live).sum()))
    if (entropy := before.entropy) is None:
        return
    tally.count("entropy_kept", float(entropy[keep].sum()))
    tally.count("entropy_dropped", float(entropy[before.learn & ~keep].sum()))
    if (threshold := selector.threshold(entropy, keep)) is not None:
        tally.count("threshold", threshold)
        tally.count("thresholds", 1)


def clipped_of_all(tally: Tally, objective: Objective, now: Outputs, batch: Batch) -> None:
    """Adds the clip's share over all tokens that could learn, also those that were dropped, of the rows that ran."""
    if batch.whole is None:
        return
    every = batch.replace(learn=batch.able, weight=batch.whole)
    with torch.no_grad():
        terms = objective.loss(replace(now, logp=now.logp.detach()), every)
    if (clipped := terms.metrics.get("policy/clip_share")) is not None:
        tally.count("clipped_all", float(clipped))
        tally.count("whole", float(batch.whole.sum()))
