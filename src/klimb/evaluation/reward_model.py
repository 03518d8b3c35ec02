"""How often a reward model prefers what people do, on held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from klimb.data.inspecting import word_scores
from klimb.evaluation.calibration import calibrated
from klimb.evaluation.given import Model, Replies, paired
from klimb.evaluation.intervals import wilson
from klimb.types import Group, Label, Prompt

if TYPE_CHECKING:
    from klimb.policy.reward_head import Scale

MOST = 2000
PAIR = (Label.CHOSEN, Label.REJECTED)
Measured = tuple[float, int]
"""An answer's reward, and its length in tokens."""


@dataclass(frozen=True, slots=True)
class RewardExam:
    """The held-out prompts with their given answers, and the policy whose value head is the reward.

    Of longer answers the first `most` tokens are read, as in training.
    """

    prompts: Sequence[Prompt]
    given: Replies
    policy: Model
    tokens: int
    most: int | None = None
    words: Callable[[], dict[str, float]] = dict
    """`words_win` of the training pairs, the line to beat; asked at each evaluation."""

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """The metrics after `step`; nothing is sampled. With a head of zeros every pair is a tie, a half."""
        measured = self._measured()
        if not measured:
            return {}, []
        gaps = [chosen - rejected for (chosen, _), (rejected, _) in measured]
        longer = [chosen - rejected for (_, chosen), (_, rejected) in measured]
        right = _wins(gaps) * len(gaps)
        low, high = wilson(round(right), len(gaps))
        found = {"eval/reward_accuracy": right / len(gaps), "eval/reward_low": low, "eval/reward_high": high}
        found |= {"eval/longer_wins": _wins(longer)} | self.words()
        sure = calibrated(gaps)
        found |= {"eval/reward_loss": sure.loss, "eval/reward_calibration": sure.error}
        found |= {"eval/reward_calibration_low": sure.low, "eval/reward_calibration_high": sure.high}
        found |= {"eval/reward_calibration_chance": sure.chance}
        mean, std, _ = _spread(measured)
        return found | {"eval/reward_mean": mean, "eval/reward_std": std}, []

    def scale(self) -> Scale | None:
        """Mean and spread of the rewards of the held-out answers, chosen and rejected; None where there are none."""
        from klimb.policy.reward_head import Scale

        measured = self._measured()
        return Scale(*_spread(measured)) if measured else None

    def _measured(self) -> list[tuple[Measured, Measured]]:
        """Each held-out pair: the chosen answer, the rejected one."""
        import torch

        from klimb.batch import Batch

        found: list[tuple[Measured, Measured]] = []
        groups = paired(self.prompts, self.given, self.policy.written, self.most)
        for part in Batch.of(groups).split(self.tokens) if groups else ():
            with torch.no_grad():
                rewards = self.policy(part).value[part.lengths.cumsum(0) - 1].tolist()
            assert part.label is not None
            rows = list(zip(rewards, part.lengths.tolist(), strict=True))
            chosen, rejected = ([rows[k] for k in (part.label == label).nonzero()[:, 0].tolist()] for label in PAIR)
            found += zip(chosen, rejected, strict=True)
        return found


def _spread(measured: Sequence[tuple[Measured, Measured]]) -> tuple[float, float, int]:
    rewards = [reward for pair in measured for reward, _ in pair]
    return fmean(rewards), pstdev(rewards), len(rewards)


def words_win(learned: Sequence[Prompt], asked: Sequence[Prompt], given: Replies) -> dict[str, float]:
    """How often a logistic model of words prefers what people do in the held-out pairs; empty without training pairs.

    It is that of `klimb data inspect`: a pair is judged by the words of the other prompts, of the first MOST training
    pairs and of the held-out ones.
    """
    known, new = ([(p, given[p.id]) for p in prompts if len(given.get(p.id, ())) == 2] for prompts in (learned, asked))
    if not known or not new:
        return {}
    return {"eval/words_win": _wins(word_scores([*known[:MOST], *new])[-len(new) :])}


def _wins(gaps: Sequence[float]) -> float:
    """The share that is positive; a tie counts as a half."""
    return sum(0.5 if gap == 0 else float(gap > 0) for gap in gaps) / len(gaps)
