"""What a makeup claims: which target it climbs, and which named biases stand between the two.

Each bias is a row of a table: its name, the sentence that says what it does, and where it is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from klimb.proving.makeup import Makeup, Pull
from klimb.proving.targets import Divergence, Target
from klimb.proving.worlds import World

UNBIASED = "unbiased"
K1_LOSS = "k1 in the loss"


@dataclass(frozen=True, slots=True)
class Bias:
    """A reason why the expected gradient is not the target's. `there` is asked of (makeup, world, ratio outside)."""

    name: str
    sentence: str
    there: Callable[[Makeup, World, bool], bool]


@dataclass(frozen=True, slots=True)
class Claim:
    """The target, the biases between it and the gradient; and, where these only scale it, what it is exactly."""

    target: Target
    biases: tuple[Bias, ...]
    climbs: Target | None

    @property
    def stated(self) -> str:
        """`unbiased`, or the names of the biases."""
        return "; ".join(bias.name for bias in self.biases) or UNBIASED


def _idle(stated: Makeup, world: World) -> bool:
    """Whether there is a k1 in the loss without any expected gradient."""
    return _in_loss(stated, "k1", "detached") or (_in_loss(stated, "k1", "none") and not world.off_policy)


def _long(stated: Makeup, here: World) -> bool:
    return here.longest > 1 and stated.level != "sequence"


def _baseline(name: str) -> Callable[[Makeup, World, bool], bool]:
    return lambda m, w, _: m.baseline == name and not w.given


def _unweighted(kind: str) -> Callable[[Makeup, World, bool], bool]:
    return lambda m, w, _: _in_loss(m, kind, "none") and w.off_policy


def _in_loss(stated: Makeup, kind: str, *weights: str) -> bool:
    """Whether this estimator is in the loss, with one of these weights."""
    pull = stated.pull
    return bool(pull and pull.beta > 0 and pull.place == "loss" and pull.kind == kind and pull.weighted in weights)


def _in_reward(stated: Makeup, world: World, *kinds: str) -> bool:
    """Whether an estimator is off the reward; given advantages know of none."""
    pull = stated.pull
    return bool(pull and pull.beta > 0 and pull.rewarded and pull.kind in kinds and not world.given)


def _estimated(stated: Makeup, world: World) -> bool:
    """Whether advantages are a critic's, of answers with several tokens."""
    return stated.baseline.startswith("critic") and world.longest > 1 and not world.given


BIASES = (
    Bias(
        "group mean: (G-1)/G",
        "The group's mean includes the row itself, so the reward's gradient is (G-1)/G of the true one.",
        _baseline("group"),
    ),
    Bias(
        "batch mean: (N-1)/N",
        "The batch's mean includes the row itself, so the reward's gradient is (N-1)/N of the true one.",
        _baseline("batch"),
    ),
    Bias(
        "z-score",
        "Each group's reward is measured in its own spread: prompts and groups with little spread count for more.",
        _baseline("group z"),
    ),
    Bias(
        "whitened",
        "Advantages are measured in the spread of all tokens drawn with them, of which the row is a part.",
        lambda m, w, _: m.baseline.endswith("white") and not w.given,
    ),
    Bias(
        "critic: lambda < 1",
        "What comes after the next token is the critic's opinion in part, and enters with its errors.",
        lambda m, w, _: _estimated(m, w) and m.discount[1] < 1,
    ),
    Bias(
        "discounted",
        "A token's reward counts less, the further off it is: what is climbed is a discounted reward.",
        lambda m, w, _: _estimated(m, w) and m.discount[0] < 1,
    ),
    Bias(
        "overlong punishment",
        "The reward that is climbed is the reward less a punishment of length.",
        lambda m, w, _: m.punish[1] * m.punish[2] > 0 and w.longest > m.punish[0] - m.punish[1] and not w.given,
    ),
    Bias(
        "row mean: 1/length",
        "A row's gradient is divided by its length: what is climbed is reward per token of each answer.",
        lambda m, w, _: _long(m, w) and (m.weights == "row" or (m.weights == "token" and w.given)),
    ),
    Bias(
        "token mean",
        "The gradient is divided by the number of tokens that were drawn, which depends on the answers themselves.",
        lambda m, w, _: _long(m, w) and m.weights == "token" and not w.given,
    ),
    Bias(
        "constant: 1/L",
        "The sum over tokens is divided by a constant: the true gradient's direction at 1/L of its size.",
        lambda m, w, _: isinstance(m.weights, int) and m.weights != 1,
    ),
    Bias(
        "token ratios",
        "A token's ratio leaves out how the probability of its prefix, and of what follows, has changed.",
        lambda m, w, _: w.off_policy and w.longest > 1 and m.level == "token",
    ),
    Bias(
        "geometric ratios",
        "The geometric mean of the tokens' ratios is no importance weight of the answer.",
        lambda m, w, _: w.off_policy and w.longest > 1 and m.level == "mean",
    ),
    Bias(
        "clipped",
        "Some sample's ratio lies outside the interval, and its gradient is dropped.",
        lambda m, w, outside: outside and not math.isinf(m.clip[1]),
    ),
    Bias(
        "capped",
        "Some sample's ratio is above the cap, and its weight is the cap.",
        lambda m, w, outside: outside and not math.isinf(m.cap),
    ),
    Bias(
        "tapered",
        "Some sample's weight is not its ratio, but the nearest number that its advantage's sign allows.",
        lambda m, w, outside: outside and m.bounds is not None,
    ),
    Bias(
        "unweighted k3",
        "k3 without pi / old has, off-policy, the gradient of neither KL.",
        _unweighted("k3"),
    ),
    Bias(
        "unweighted k2",
        "k2 without pi / old has, off-policy, the gradient of neither KL.",
        _unweighted("k2"),
    ),
    Bias(
        "unweighted k1",
        "k1 without pi / old climbs, off-policy, the KL of old to pi: it drives pi away from the sampler.",
        _unweighted("k1"),
    ),
    Bias(
        K1_LOSS,
        "k1 whose weight has no gradient is noise: its own expected gradient is zero.",
        lambda m, w, _: _idle(m, w),
    ),
    Bias(
        "attached k2",
        "w k2 with the gradient of w has that of half the mean square of log(pi / ref), which is no KL.",
        lambda m, w, _: _in_loss(m, "k2", "attached"),
    ),
    Bias(
        "k2 or k3 in the reward",
        "E[k grad log pi] is the gradient of a KL for k1 alone.",
        lambda m, w, _: _in_reward(m, w, "k2", "k3"),
    ),
    Bias(
        "frozen KL",
        "The KL in the reward is measured at the policy that sampled, and does not know what has moved since.",
        lambda m, w, _: _in_reward(m, w, "k1", "k2", "k3") and w.off_policy,
    ),
    Bias(
        "truncated sampling",
        "Answers are drawn from the likeliest words alone, and pi / old does not weigh them back.",
        lambda m, w, _: w.sampler is not None,
    ),
)
SCALES = frozenset({"group mean: (G-1)/G", "batch mean: (N-1)/N", "constant: 1/L", K1_LOSS})
"""Biases that change the size of the gradient or of a part of it, and no direction: the scaled target is exact."""


def claim(stated: Makeup, world: World, outside: bool) -> Claim:
    """What `stated` claims in this world; `outside`: whether a ratio there is beyond the clip or the cap."""
    target = target_of(stated, world)
    biases = tuple(bias for bias in BIASES if bias.there(stated, world, outside))
    names = {bias.name for bias in biases}
    return Claim(target, biases, _scaled(target, stated, world, names) if names <= SCALES else None)


def target_of(stated: Makeup, world: World) -> Target:
    """The reward less the divergence that the makeup names. Advantages that are given have no KL in them."""
    pull = stated.pull
    if pull is None or pull.beta == 0 or (pull.rewarded and world.given):
        return Target()
    per_token = _long(stated, world) and not pull.rewarded
    return Target(_divergence(pull, world), pull.reference, pull.beta, per_token)


def _divergence(pull: Pull, world: World) -> Divergence:
    """k3 is the forward KL where its weight has no gradient: on-policy without one, or detached."""
    if pull.kind == "jeffreys":
        return "Jeffreys"
    unmoved = pull.weighted == "detached" or (pull.weighted == "none" and not world.off_policy)
    forward = pull.kind.endswith("fkl") or (pull.kind == "k3" and unmoved and not pull.rewarded)
    return "forward" if forward else "reverse"


def _scaled(target: Target, stated: Makeup, world: World, names: set[str]) -> Target:
    rows = world.group * world.policy.prompts
    share = 1 - 1 / world.group if "group mean: (G-1)/G" in names else 1.0
    share = 1 - 1 / rows if "batch mean: (N-1)/N" in names else share
    size = 1 / stated.weights if isinstance(stated.weights, int) else 1.0
    charged = share if stated.pull and stated.pull.rewarded else 1.0
    charged = 0.0 if K1_LOSS in names else charged
    return replace(target, reward=share * size, beta=target.beta * size * charged)
