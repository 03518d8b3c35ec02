"""The reference's log-probs of given answers: computed the first time that an answer is met, then remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from klimb.batch import Batch, Outputs
from klimb.types import Label

if TYPE_CHECKING:
    from klimb.policy.adapter import Started
    from klimb.policy.policy import Policy


class Remembered:
    """A frozen policy as the trainer sees it. Given answers are known by their tokens; samples are always computed.

    What is remembered is part of every checkpoint: a continued run computes nothing again, and so in no other packing.
    A fork, whose settings and data may be others, begins with nothing. Where not `samples`, theirs are left zero, for
    an objective that reads whole distributions in their place.
    """

    own = True

    def __init__(self, policy: Policy | Started, samples: bool = True) -> None:
        self.policy, self._samples = policy, samples
        self._known: dict[str, Tensor] = {}

    def __call__(self, batch: Batch) -> Outputs:
        """The log-prob of each token; the entropies are zero. New given answers are computed apart from the samples."""
        logp = batch.tokens.new_zeros(len(batch.tokens), dtype=torch.float32)
        kinds = [0] * batch.rows if batch.label is None else batch.label.tolist()
        given = [row for row, kind in enumerate(kinds) if kind in (Label.CHOSEN, Label.REJECTED)]
        keys = {row: content_of(batch, row) for row in given}
        new = [row for row in given if keys[row] not in self._known]
        drawn = [row for row in range(batch.rows) if row not in keys] if self._samples else []
        for rows in (new, drawn):
            if rows:
                self._compute(batch, rows, logp)
        for row in new:
            self._known[keys[row]] = logp[batch.row == row]
        for row, key in keys.items():
            logp[batch.row == row] = self._known[key]
        return Outputs(logp, torch.zeros_like(logp))

    def numbers(self) -> Mapping[str, float]:
        """Nothing that an objective reads."""
        return {}

    def observe(self, batch: Batch, divergence: float | None) -> dict[str, float]:
        """Nothing: a frozen policy learns nothing of a step."""
        return {}

    def state(self) -> Mapping[str, Tensor]:
        """What is remembered: log-probs by what they are of."""
        return dict(self._known)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remembers what was."""
        self._known = dict(state)

    def _compute(self, batch: Batch, rows: list[int], into: Tensor) -> None:
        chosen = torch.tensor(rows)
        into[torch.isin(batch.row, chosen)] = self.policy(batch.take(chosen)).logp.to(into.dtype)


def content_of(batch: Batch, row: int) -> str:
    """The hash of a row's prompt and answer, as token ids: what its log-probs under one policy depend on."""
    prompt = batch.prompts[int(batch.group[row])].tolist()
    text = f"{prompt}{batch.tokens[batch.row == row].tolist()}"
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()
