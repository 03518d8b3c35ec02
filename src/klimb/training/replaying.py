"""Answers that another policy drew, in a batch: which policy is the old one of each row."""

from __future__ import annotations

import torch

from klimb.batch import Batch
from klimb.errors import DataError


def by_behaviour(batch: Batch) -> Batch:
    """The batch with `old` filled: of a replayed row that of whoever drew it, of a fresh one the trainer's own.

    With old = mu, the one that drew, an objective's ratio is pi / mu, the whole weight. A correction by old / mu is one
    for these rows, so that nothing is counted twice; for the fresh ones it is what it always is. Where `old` was not
    measured, nothing moves before the one pass, and fresh tokens are `unmoved`. Raises DataError where a log has no
    log-probs.
    """
    if batch.age is None or batch.label is not None:
        return batch
    if batch.sampler is None:
        raise DataError(
            "learn from replayed answers by importance weights",
            "answers without the log-probs of the policy that drew them",
            "a generator that gives log-probs, or source.old=trainer",
        )
    own = (batch.age < 0)[batch.row]
    if batch.old is None:
        return batch.replace(old=batch.sampler, unmoved=own)
    return batch.replace(old=torch.where(own, batch.old.to(batch.sampler.dtype), batch.sampler))


def all_drawn_earlier(batch: Batch) -> bool:
    """Whether `by_behaviour` fills every row from the log: nothing of the trainer's own is needed for `old`."""
    return batch.age is not None and batch.label is None and not bool((batch.age < 0).any())
