"""DAPO: clip-higher, token mean and soft overlong punishment (2503.14476)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from klimb import functional as F
from klimb.errors import KlimbError
from klimb.objectives.base import given, live_rows, movement, spread
from klimb.objectives.penalty import Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class DAPO(Penalised):
    """loss = PPO clip, with more room above than below, of A = (R - mean) / (std + 1e-6); mean over all tokens.

    The paper has no KL. Dynamic sampling (drawing until every group has both right and wrong answers) belongs to the
    source: `source.dynamic`. Departure: the dual clip of the authors' scripts (c = 10) is
    not in the paper and not here. An answer that ended in time is punished by its length as well, as in the paper.
    """

    type: Literal["dapo"] = "dapo"
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall before it is clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.28
    """How far above one a ratio may rise before it is clipped."""
    length: Annotated[int, Field(ge=1)] = 1024
    """The length in tokens at which the overlong punishment is whole; the paper's is `sampling.max_tokens`."""
    buffer: Annotated[int, Field(ge=0)] = 0
    """Over how many tokens before `length` it grows from zero; 0 = no punishment (paper: a fifth of `length`)."""
    penalty: Annotated[float, Field(ge=0.0)] = 1.0
    """What the whole punishment takes off the reward."""

    @model_validator(mode="after")
    def _shorter(self) -> Self:
        if self.buffer > self.length:
            raise ValueError(f"buffer={self.buffer} is longer than length={self.length}; try: a fifth of length")
        return self

    @property
    def minimum_group(self) -> int:
        return 2

    def idle(self, longest: int) -> list[KlimbError]:
        """A punishment that begins where no answer ends."""
        begins = self.length - self.buffer
        if not self.buffer or begins < longest:
            return []
        asked = f"punish answers of more than {begins} tokens (objective.length={self.length}, buffer={self.buffer})"
        cure = f"objective.length={longest} with a buffer of a fifth of it, or objective.buffer=0 for no punishment"
        return [KlimbError(asked, f"sampling.max_tokens={longest}: no answer is that long", cure)]

    def advantage(self, batch: Batch) -> Batch:
        reward = self.rewarded(batch)
        if self.buffer:
            lengths = batch.lengths.to(reward.dtype)
            reward = reward + self.penalty * F.advantage.overlong(lengths, self.length, self.buffer)
        return spread(batch, F.advantage.z_score(reward, batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(log_ratio)
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        return self.finish(now, batch, loss, movement(log_ratio, ratio, ~live & (advantage != 0)))
