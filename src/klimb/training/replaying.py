"""Answers that another policy drew, in a batch: which policy is the old one of each row."""

from __future__ import annotations

import torch

from klimb.batch import Batch
from klimb.errors import DataError
from klimb.training.reference import Forward, measure


def by_behaviour(batch: Batch, policy: Forward, tokens: int) -> Batch:
    """The batch with `old` filled: of a replayed row that of whoever drew it, of a fresh one the trainer's own.

    With old = mu, the one that drew, an objective's ratio is pi / mu, the whole weight. A correction by old / mu is one
    for these rows, so that nothing is counted twice; for the fresh ones it is what it always is.
    Raises DataError where a log has no log-probs.
    """
    if batch.age is None or batch.label is not None:
        return batch
    if batch.sampler is None:
        raise DataError(
            "learn from replayed answers by importance weights",
            "answers without the log-probs of the policy that drew them",
            "a generator that gives log-probs, or source.old=trainer",
        )
    fresh = batch.age < 0
    if not bool(fresh.any()):
        return batch.replace(old=batch.sampler)
    own = fresh[batch.row]
    old = batch.sampler.clone()
    if batch.old is None:
        old[own] = measure(policy, batch.take(torch.nonzero(fresh).flatten()), tokens).to(old.dtype)
    else:
        old[own] = batch.old[own].to(old.dtype)
    return batch.replace(old=old)
