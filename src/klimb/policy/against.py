"""A policy that learns against a reference: with each sample's tokens, the exact KL between the two at each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from klimb.batch import Outputs
from klimb.errors import ModelError
from klimb.policy.divergences import next_token_kl
from klimb.types import Label

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.policy.adapter import Started
    from klimb.policy.policy import Policy


class Against:
    """The policy, whose outputs also have `divergence`; without gradients it is not asked for and left out.

    Of a batch with labels only the fresh samples have one: the reference is run on these alone, its hidden states at
    their tokens (t, d) are held, and the logits of both are walked in tiles. Raises ModelError where a model's own
    logits have to be used.
    """

    def __init__(self, policy: Policy, reference: Policy | Started) -> None:
        self._policy, self._reference = policy, reference
        if policy.path.rule is None:
            raise ModelError(
                "the exact KL of whole next-token distributions (objective.estimator=exact)",
                "a model whose own logits are used, as the chunked output layer does not fit it",
                "objective.estimator=reward_to_go",
            )

    def __call__(self, batch: Batch) -> Outputs:
        """The log-prob, entropy and divergence of each token; the latter is zero at answers that the data give."""
        if not torch.is_grad_enabled():
            return self._policy(batch)
        drawn = torch.ones_like(batch.scored) if batch.label is None else batch.label == Label.FRESH
        fresh, seen = batch.take(torch.nonzero(drawn).flatten()), list[Tensor]()
        other = self._reference.states(fresh) if fresh.rows else None
        now = self._policy(batch, seen.append)
        divergence = torch.zeros_like(now.logp)
        if other is not None:
            divergence = divergence.masked_scatter(drawn[batch.row], self._apart(seen[0], other, batch, drawn))
        return Outputs(now.logp, now.entropy, now.value, divergence)

    def _apart(self, states: Tensor, other: Tensor, batch: Batch, drawn: Tensor) -> Tensor:
        """KL(pi||ref) at each token of the drawn rows, from the policy's states at all; differentiable."""
        at = drawn[batch.row]
        own, tokens = states[at.to(states.device)], batch.tokens[at].to(states.device)
        heads = (one.head(tokens, batch.temperature) for one in (self._policy, self._reference))
        return next_token_kl(own, other.to(own), *heads).to(batch.row.device)
