"""PPO with a critic: the clipped surrogate, GAE and a clipped value loss (1707.06347, 1506.02438)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.errors import KlimbError
from klimb.objectives.base import given, live_rows, movement, terms
from klimb.objectives.critics import AnyCritic, ValueHead, ValueModel
from klimb.objectives.penalty import KL, Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class PPO(Penalised):
    """loss = PPO clip of A_t + value_weight * half the clipped (V - R)^2, mean over tokens; A by GAE, R = A + V_old.

    The reward stands on the last learning token of an answer, and nothing comes after it, also where the length limit
    cut it off. With beta, each token's reward is less beta log(old / ref) of it, before GAE: the critic learns what is
    left. A is whitened over the whole batch, after R was made. One answer a prompt is enough. Beside a selector the
    value loss stays on all tokens, with the weights that they have without one: V is made and used at all of them.
    Departures from the paper: no entropy bonus; the value clip is that of its public code.
    """

    type: Literal["ppo"] = "ppo"
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall before it is clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.2
    """How far above one a ratio may rise before it is clipped."""
    gamma: Share = 1.0
    """The discount from one token to the next; 1 = a late reward counts like an early one."""
    lam: Share = 0.95
    """GAE's lambda: 1 = the reward itself less the value (no bias, more variance), 0 = one step of the critic only."""
    whiten: bool = True
    """Shift and scale the advantages to mean 0 and variance 1 over the learning tokens of the batch."""
    value_weight: Annotated[float, Field(gt=0.0)] = 0.1
    """The weight of the value loss beside the policy's (c_1 of the paper's Eq. 9)."""
    value_clip: Annotated[float, Field(gt=0.0)] | None = 0.2
    """How far, in units of reward, a value may move from the old one before its loss is clipped; null = no clip."""
    value: AnyCritic = ValueHead()
    """What says the values: a head on the policy's own hidden states, or a model of its own."""
    trunk: bool = True
    """Whether the value loss moves the model too; false = the value head alone learns from it, on detached states."""
    kl: KL = KL(where="reward", estimator="k1")

    @property
    def critic(self) -> bool:
        return True

    @property
    def moves_trunk(self) -> bool:
        return self.trunk

    @property
    def value_model(self) -> ValueModel | None:
        return self.value if isinstance(self.value, ValueModel) else None

    @property
    def beyond_group(self) -> bool:
        return True

    def faults(self) -> list[KlimbError]:
        """A critic with a model of its own never moves the policy's."""
        asked = "objective.trunk=false keeps the value loss out of the policy's model"
        found = "objective.value.type=model, which has a model of its own"
        idle = not self.trunk and self.value_model is not None
        return [*super().faults(), *([KlimbError(asked, found, "leave objective.trunk out")] if idle else [])]

    def advantage(self, batch: Batch) -> Batch:
        value = given(batch, "value")
        reward = F.value.at_last(batch.reward.to(value.dtype), batch.learn, batch.row) - self.charge(batch)
        found = F.value.gae(reward, value, batch.learn, batch.row, batch.rows, self.gamma, self.lam)
        used = F.advantage.whitened(found, batch.learn) if self.whiten else found
        return batch.replace(advantage=used, returns=F.value.returns(found, value))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        every = (
            batch if batch.whole is None else batch.replace(kl_weight=batch.whole)
        )  # the critic learns at all of them
        return live_rows(every, forced=True)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(log_ratio)
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        fit, cut = self._fit(now, batch)
        told = {"value/loss": fit, "value/clip_share": cut, "value/mean": given(now, "value")}
        metrics = movement(log_ratio, ratio, ~live & (advantage != 0))
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        if batch.whole is None:
            return self.finish(now, batch, loss + self.value_weight * fit, metrics | told)
        main = self.finish(now, batch, loss, metrics)
        critic = terms(batch.replace(weight=batch.whole), self.value_weight * fit, told)
        return replace(main, loss=main.loss + critic.loss, fit=critic.metrics)

    def _fit(self, now: Outputs, batch: Batch) -> tuple[PerToken, PerToken]:
        """The value loss of each token, and one where its clip cuts the gradient off."""
        import torch

        value, old, target = given(now, "value"), given(batch, "value"), given(batch, "returns")
        if self.value_clip is None:
            return F.value.squared(value, target), torch.zeros_like(value)
        live = F.value.clipped_live(value.detach(), old, target, self.value_clip)
        return F.value.clipped(value, old, target, self.value_clip), (~live).to(value.dtype)
