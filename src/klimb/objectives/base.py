"""What every objective is: a settings record that fills advantages, weighs tokens, and says the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.config import Settings
from klimb.errors import KlimbError
from klimb.objectives.carried import Carried

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.objectives.critics import ValueModel
    from klimb.shapes import PerRow, PerToken, RowMask, TokenMask


class Objective(Settings):
    """A policy objective. Minimise `loss`; everything it returns is a sum weighted by `batch.weight`."""

    allow_bias: bool = False
    """Accepts combinations whose gradient is known not to be that of what they are meant to climb."""

    @property
    def needs(self) -> frozenset[str]:
        """What the source must give: groups (scored samples), pairs, labels."""
        return frozenset({"groups"})

    @property
    def minimum_group(self) -> int:
        """The fewest completions a prompt that this objective can learn from."""
        return 1

    @property
    def refers(self) -> bool:
        """Whether the log-probs of a reference policy are needed (`batch.ref`)."""
        return False

    @property
    def kl_place(self) -> Literal["none", "loss", "clip", "reward"]:
        """Where a KL to another policy is: a term of the loss, inside its clip, or off the reward."""
        return "none"

    @property
    def critic(self) -> bool:
        """Whether a critic is needed: `now.value` in the loss."""
        return False

    @property
    def reads_value(self) -> bool:
        """Whether `batch.value`, the critic's before the first pass, is needed: that costs a forward pass."""
        return self.critic

    @property
    def value_model(self) -> ValueModel | None:
        """The settings of a critic with a model of its own; None = a head on the policy's trunk, if any."""
        return None

    @property
    def reads_logp(self) -> bool:
        """Whether the policy's log-probs are needed; where not, its output layer is left out."""
        return True

    @property
    def reads_divergence(self) -> bool:
        """Whether the exact KL to the reference at each token of fresh samples is needed: `now.divergence`."""
        return False

    @property
    def moves_trunk(self) -> bool:
        """Whether the critic's loss moves the model too; else its value head reads detached hidden states."""
        return True

    @property
    def reads_old(self) -> bool:
        """Whether `advantage` needs the log-probs of the policy that sampled (`batch.old`)."""
        return False

    @property
    def beyond_group(self) -> bool:
        """Whether an advantage depends on other prompts' answers, so that groups cannot be left out for their rewards.

        Where not, a group of equal rewards has advantages of zero (but for what is punished by length beside them), and
        leaving it out changes no other's.
        """
        return False

    @property
    def carried(self) -> Carried:
        """What is carried from step to step; its numbers are given back in `batch.carried`."""
        return Carried()

    def idle(self, longest: int) -> list[KlimbError]:
        """Settings that do nothing where no answer has more than `longest` tokens, each with its cure."""
        return []

    def advantage(self, batch: Batch) -> Batch:
        """The batch with `advantage[t]` filled, from `reward[r]` of scored rows only."""
        raise NotImplementedError

    def weighting(self, batch: Batch) -> PerToken:
        """A weight per token, zero where `learn` is False, summing to one over the whole optimizer step."""
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        """The rows that can contribute a gradient; the others are never run. `advantage` and `weight` are there."""
        raise NotImplementedError

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        """The surrogate loss and its metrics, from `now` = the current policy on `batch`."""
        raise NotImplementedError


def given(batch: Batch | Outputs, name: str) -> PerToken:
    """A field of the batch (or outputs) that must have been filled by now. Raises ValueError where it was not."""
    value: PerToken | None = getattr(batch, name)
    if value is None:
        raise ValueError(f"the {type(batch).__name__} has no `{name}`: it is filled before the loss is asked for")
    return value


def spread(batch: Batch, advantage: PerRow) -> Batch:
    """The batch with each row's advantage at each of its tokens."""
    return batch.replace(advantage=advantage[batch.row])


def live_rows(batch: Batch, forced: bool) -> RowMask:
    """Rows with a weighted token whose advantage is not zero; any weighted token will do where a KL `forced` it."""
    weighted = given(batch, "weight") != 0
    moved = weighted if forced else weighted & (given(batch, "advantage") != 0)
    if forced and batch.kl_weight is not None:
        moved = moved | (batch.kl_weight != 0)
    return F.segments.any_by(moved, batch.row, batch.rows)


def movement(log_ratio: PerToken, ratio: PerToken, clipped: TokenMask) -> dict[str, PerToken]:
    """How far the policy has moved from the one that sampled, from each token's log(now / old).

    The ratio that the loss uses, k3 of KL(old||now) in nats a token, and where a clip took a gradient away.
    """
    return {
        "policy/ratio": ratio,
        "policy/kl_old": F.divergence.k3(-log_ratio),
        "policy/clip_share": clipped.to(log_ratio.dtype),
    }


def terms(batch: Batch, loss: PerToken, metrics: Mapping[str, PerToken]) -> Terms:
    """The loss and the metrics as sums weighted by `batch.weight`, so that parts add up; metrics are detached."""
    from klimb.batch import Terms

    weight = given(batch, "weight")
    every = {**metrics, **_sides(batch, metrics)}
    sums = {name: F.weighting.total(value.detach(), weight) for name, value in every.items()}
    return Terms(F.weighting.total(loss, weight), sums)


def beside(main: Terms, kl: Terms) -> Terms:
    """`main` with a KL beside it, which has the metrics of its own weights."""
    from klimb.batch import Terms

    return Terms(main.loss + kl.loss, main.metrics, kl.metrics)


def lifted(values: PerToken, batch: Batch, level: Literal["token", "sequence"]) -> PerToken:
    """Log-probs of tokens, or their sums over the sequence at each of its tokens."""
    return values if level == "token" else F.importance.product(values, batch.learn, batch.row, batch.rows)


def of_kl(batch: Batch) -> Batch:
    """The batch as a KL in the loss sees it, where it has weights of its own: all tokens that could learn do."""
    return batch if batch.kl_weight is None else batch.replace(learn=batch.able, weight=batch.kl_weight)


def _sides(batch: Batch, metrics: Mapping[str, PerToken]) -> Mapping[str, PerToken]:
    """Where the clip cut, by the side of the ratio and the sign of the advantage; nothing without a ratio."""
    clipped, ratio, advantage = metrics.get("policy/clip_share"), metrics.get("policy/ratio"), batch.advantage
    if clipped is None or ratio is None or advantage is None:
        return {}
    above, good = (ratio > 1).to(clipped.dtype), (advantage >= 0).to(clipped.dtype)
    return {
        "policy/clip_above_good": clipped * above * good,
        "policy/clip_above_bad": clipped * above * (1 - good),
        "policy/clip_below_good": clipped * (1 - above) * good,
        "policy/clip_below_bad": clipped * (1 - above) * (1 - good),
    }
