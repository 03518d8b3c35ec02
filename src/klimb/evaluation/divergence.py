"""How far the policy went from where it began: the exact reverse KL along its own answers to held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from klimb import functional as F
from klimb.evaluation.answers import drawn, noted
from klimb.evaluation.given import Model
from klimb.evaluation.intervals import normal
from klimb.generation.base import Sampler, Sampling
from klimb.types import Group, Transform

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.batch import Batch


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL(pi||ref) in nats a whole answer: exact at each token, summed along answers drawn from pi itself.

    `sampling` gives the length and the stops; parts of at most `tokens` tokens are run at a time.
    """

    policy: Model
    reference: Model
    sampler: Sampler
    sampling: Sampling
    seed: int
    tokens: int

    def __call__(self, groups: Sequence[Group], step: int) -> tuple[dict[str, float], list[Group]]:
        """`eval/kl` with its 95 % interval over held-out answers, which note theirs. Raises GenerationError."""
        values = self.values(groups, step)
        if not values:
            return {}, []
        found = dict(zip(("eval/kl", "eval/kl_low", "eval/kl_high"), normal(values), strict=True))
        own = {group.prompt.id: value for group, value in zip(groups, values, strict=True)}
        return found, noted(groups, "eval/kl", own)

    def values(self, groups: Sequence[Group], step: int) -> list[float]:
        """That of each group's answer; where those were not drawn from pi (greedy, say), of others that are."""
        from klimb.batch import Batch

        own = groups
        if any(group.transform != Transform() for group in groups):
            asked = Sampling(max_tokens=self.sampling.max_tokens, stop=self.sampling.stop)
            own = drawn([group.prompt for group in groups], self.sampler, asked, self.seed, step)
        return [value for part in Batch.of(own).split(self.tokens) for value in self._exact(part)]

    def _exact(self, part: Batch) -> list[float]:
        import torch

        with torch.no_grad():
            both = zip(self.policy.distributions(part, 256), self.reference.distributions(part, 256), strict=True)
            tokens: Tensor = torch.cat([F.divergence.exact(now, ref) for now, ref in both])
        rows: list[float] = F.segments.sum_by(tokens, part.row, part.rows).tolist()
        return rows
