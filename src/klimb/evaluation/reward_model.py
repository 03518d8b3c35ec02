"""How often a reward model prefers what people do, on held-out pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from klimb.evaluation.intervals import wilson
from klimb.evaluation.preferences import Model, paired
from klimb.types import Group, Label, Prompt, Reply

BINS = 10


@dataclass(frozen=True, slots=True)
class RewardExam:
    """The held-out prompts with their given answers, and the policy whose value head is the reward."""

    prompts: Sequence[Prompt]
    given: Mapping[str, tuple[Reply, ...]]
    policy: Model
    tokens: int

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """The metrics after `step`; nothing is sampled. Before training every pair is a tie, and counts as a half."""
        import torch

        from klimb.batch import Batch

        gaps: list[float] = []
        longer: list[int] = []
        rewards: list[float] = []
        groups = [group for prompt in self.prompts if (group := paired(prompt, self.given, self.policy))]
        for part in Batch.of(groups).split(self.tokens):
            with torch.no_grad():
                row = self.policy(part).value[part.lengths.cumsum(0) - 1]
            assert part.label is not None
            chosen, rejected = part.label == Label.CHOSEN, part.label == Label.REJECTED
            gaps += (row[chosen] - row[rejected]).tolist()
            longer += (part.lengths[chosen] - part.lengths[rejected]).tolist()
            rewards += row.tolist()
        right = _wins(gaps) * len(gaps)
        low, high = wilson(round(right), len(gaps))
        found = {"eval/reward_accuracy": right / len(gaps), "eval/reward_low": low, "eval/reward_high": high}
        found |= {"eval/longer_wins": _wins(longer)} | calibration(gaps)
        return found | {"eval/reward_mean": fmean(rewards), "eval/reward_std": pstdev(rewards)}, []


def calibration(gaps: Sequence[float]) -> dict[str, float]:
    """How far the probabilities s(r_w - r_l) can be believed, from the reward gaps of held-out pairs.

    `eval/reward_loss` is the mean of -log s(gap), log 2 where nothing is known. `eval/reward_calibration` is the
    expected calibration error (Guo et al., 1706.04599, Eq. 3): pairs are put into ten bins by how sure the model is,
    s(|gap|) from a half to one; the distance of a bin's accuracy from its mean sureness is weighed by its pairs.
    """
    loss = fmean(math.log1p(math.exp(-abs(gap))) + max(-gap, 0.0) for gap in gaps)
    sure = [1.0 / (1.0 + math.exp(-abs(gap))) for gap in gaps]
    places = [min(int((p - 0.5) / 0.5 * BINS), BINS - 1) for p in sure]
    apart = 0.0
    for place in sorted(set(places)):
        here = [index for index, one in enumerate(places) if one == place]
        apart += abs(sum(sure[index] for index in here) - _wins([gaps[index] for index in here]) * len(here))
    return {"eval/reward_loss": loss, "eval/reward_calibration": apart / len(gaps)}


def _wins(gaps: Sequence[float]) -> float:
    """The share that is positive; a tie counts as a half."""
    return sum(0.5 if gap == 0 else float(gap > 0) for gap in gaps) / len(gaps)
