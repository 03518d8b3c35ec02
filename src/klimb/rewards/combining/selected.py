"""A bandit chooses the source that scores: for each prompt, or for a whole batch (LASeR, 2410.01735)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from klimb.bandits import AnyBandit, LinUCB
from klimb.bandits.gains import AnyGain, HeldOut, LossDecrease, Margin, NegativeLoss
from klimb.errors import KlimbError
from klimb.rewards.combining.base import Combiner, Combining, Opening, unknown


class Selected(Combining):
    """The score of the chosen source is the reward; the other arms are not asked. Weights do not scale it.

    Arms are the sources with a weight. A source of weight 0 may be the judge: it is asked on a share of the prompts
    only, nothing is trained on it, and the gains `margin` and `held_out` are made of it.
    """

    type: Literal["selected"] = "selected"
    bandit: AnyBandit = LinUCB(alpha=1.0)
    """What chooses. `random`, `round_robin` and `fixed` are the controls: they learn nothing and need no gain."""
    gain: AnyGain = Margin()
    """What an arm is good for."""
    choice: Literal["group", "batch"] = "group"
    """Whether each prompt has a source of its own, or all of a step have one."""
    context: Literal["initial", "current", "none"] = "initial"
    """What the choice sees: the prompt's last-token state under the initial policy (projected, of length one, with a
    constant), the same under the policy as it is (as it is), or nothing. A batch is seen as its mean. Only `linucb` and
    `thompson` look: for another bandit no state is computed, whatever stands here."""
    size: Annotated[int, Field(ge=1)] = 32
    """How many numbers a state of the initial policy is projected to."""
    judge: str = ""
    """The source that `margin` and `held_out` trust."""
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """The share of the prompts that the judge is asked about, always the same ones."""

    def open(self, opening: Opening) -> Combiner:
        from klimb.rewards.combining.selecting import Selecting

        return Selecting(self, opening)

    @property
    def learns(self) -> bool:
        """Whether gains change the choices."""
        return self.bandit.type not in ("fixed", "random", "round_robin")

    @property
    def sees(self) -> Literal["initial", "current", "none"]:
        """The context of the choices: nothing for a bandit that reads none."""
        return self.context if self.bandit.reads_context else "none"

    @property
    def judged(self) -> bool:
        """Whether the gain needs a judge."""
        return self.learns and isinstance(self.gain, HeldOut | Margin)

    @property
    def reads_loss(self) -> bool:
        """Whether the gain is made of the training loss."""
        return self.learns and isinstance(self.gain, NegativeLoss)

    def conflicts(self, weights: Mapping[str, float]) -> Iterator[KlimbError]:
        yield from super().conflicts(weights)
        arms = self.needs(weights)
        if len(arms) < 2:
            found = f"{len(arms)} with a weight: {', '.join(arms) or 'none'}"
            yield KlimbError("choose among at least two rewards (combining.type=selected)", found, "more rewards")
        arm = getattr(self.bandit, "arm", 0)
        if arm >= max(len(arms), 1):
            yield KlimbError(f"combining.bandit.arm={arm}", f"{len(arms)} arms, counted from 0", "a smaller number")
        shares = getattr(self.bandit, "shares", None)
        if shares and len(shares) != len(arms):
            yield KlimbError(f"{len(shares)} combining.bandit.shares", f"{len(arms)} arms", "one share for each arm")
        if self.context == "none" and self.bandit.reads_context:
            yield KlimbError(
                f"choose by {self.bandit.type}, which reads a context",
                "combining.context=none",
                "combining.context=initial",
            )
        yield from self._gain_conflicts(weights)

    def _gain_conflicts(self, weights: Mapping[str, float]) -> Iterator[KlimbError]:
        if self.judge:
            yield from unknown("combining.judge", [self.judge], weights)
        if self.judged and not self.judge:
            yield KlimbError(
                f"gain {self.gain.type} trusts a judge",
                "combining.judge is not set",
                "the name of a reward of weight 0",
            )
        if self.judge and weights.get(self.judge, 0.0) != 0:
            yield KlimbError(
                f"a judge that is not trained on (combining.judge={self.judge})",
                f"its weight is {weights[self.judge]:g}: it is an arm",
                "weight 0 for the judge",
            )
        if self.reads_loss and self.choice == "group":
            yield KlimbError(
                "learn from the training loss (combining.gain.type=negative_loss)",
                "choice=group, and a step has one loss for all of its prompts",
                "combining.choice=batch, or combining.gain.type=margin",
            )
        if self.learns and isinstance(self.gain, LossDecrease):
            yield KlimbError(
                "combining.gain.type=loss_decrease", "a run does not measure the loss again after an update", "margin"
            )
