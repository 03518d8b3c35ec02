"""How often a reward model prefers what people do, on held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from klimb.evaluation.intervals import wilson
from klimb.evaluation.preferences import Model, paired
from klimb.types import Group, Label, Prompt, Reply


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
        rewards: list[float] = []
        groups = [group for prompt in self.prompts if (group := paired(prompt, self.given, self.policy))]
        for part in Batch.of(groups).split(self.tokens):
            with torch.no_grad():
                row = self.policy(part).value[part.lengths.cumsum(0) - 1]
            assert part.label is not None
            gaps += (row[part.label == Label.CHOSEN] - row[part.label == Label.REJECTED]).tolist()
            rewards += row.tolist()
        right = sum(0.5 if gap == 0 else float(gap > 0) for gap in gaps)
        low, high = wilson(round(right), len(gaps))
        found = {"eval/reward_accuracy": right / len(gaps), "eval/reward_low": low, "eval/reward_high": high}
        return found | {"eval/reward_mean": fmean(rewards), "eval/reward_std": pstdev(rewards)}, []
