"""Which combinations have a gradient that is not the one they are meant to have: rules as data.

A refused rule stops a recipe unless `objective.allow_bias` is true; the others are what published methods do all the
same, and are only said in the docs. `tests/objectives/test_validity.py` reproduces each bias on a policy small enough
to enumerate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from klimb.errors import KlimbError
from klimb.objectives.base import Objective
from klimb.objectives.penalty import KL, Penalised


@dataclass(frozen=True, slots=True)
class Situation:
    """An objective and what of a run's settings decides whether its gradient is right."""

    objective: Objective
    updates: int = 1
    """Optimizer updates from each batch: epochs times minibatches. With more than one, it is off-policy."""
    truncates: bool = False
    """Whether the sampler draws from no policy that is trained: top-p, top-k, two temperatures by entropy."""
    longest: int = 2
    """The most tokens of an answer."""

    @property
    def kl(self) -> KL | None:
        """The KL that is in use, if there is one of this kind."""
        objective = self.objective
        return objective.kl if isinstance(objective, Penalised) and objective.refers else None

    @property
    def in_loss(self) -> tuple[str, str] | None:
        """Estimator and weight of a KL in the loss."""
        kl = self.kl
        return (kl.estimator, kl.weighted) if kl and kl.where == "loss" else None

    @property
    def in_reward(self) -> str:
        """Estimator of a KL in the reward, or nothing."""
        kl = self.kl
        return kl.estimator if kl and kl.where == "reward" else ""

    @property
    def kind(self) -> str:
        """The objective's name."""
        return str(getattr(self.objective, "type", ""))

    @property
    def by_token(self) -> bool:
        """Whether answers of several tokens are taken token by token: no `level=sequence`, nor RLOO's whole answers."""
        whole = self.kind in ("rloo", "custom") or getattr(self.objective, "level", "token") == "sequence"
        return self.longest > 1 and not whole


@dataclass(frozen=True, slots=True)
class Rule:
    """A combination, what its gradient really is, and what to choose instead."""

    name: str
    asked: str
    sentence: str
    cure: str
    applies: Callable[[Situation], bool]
    refused: bool = True


RULES = (
    Rule(
        "unweighted-kl-off-policy",
        "take several updates from each batch under a KL in the loss that is not weighted by pi / old",
        "from the second update on, an unweighted k2 or k3 has the gradient of neither KL",
        "objective.kl.weighted=detached (k2: reverse, k3: forward KL) or attached (k3: reverse), or one update a batch",
        lambda s: s.updates > 1 and s.in_loss in (("k2", "none"), ("k3", "none")),
    ),
    Rule(
        "k1-as-a-loss",
        "put k1 in the loss without an attached weight",
        "its expected gradient is zero on-policy; off-policy, unweighted, it drives pi away from the sampler",
        "objective.kl.weighted=attached, objective.kl.where=reward, or objective.kl.estimator=k2",
        lambda s: s.in_loss in (("k1", "none"), ("k1", "detached")),
    ),
    Rule(
        "attached-k2",
        "weigh k2 by pi / old with its gradient",
        "that is the gradient of half the mean square of log(pi/ref), which is no KL",
        "objective.kl.weighted=detached, or objective.kl.estimator=k3",
        lambda s: s.in_loss == ("k2", "attached"),
    ),
    Rule(
        "k2-or-k3-in-the-reward",
        "take k2 or k3 off the reward",
        "E[k grad log pi] is the gradient of a KL for k1 alone",
        "objective.kl.estimator=k1, or objective.kl.where=loss",
        lambda s: s.in_reward in ("k2", "k3"),
    ),
    Rule(
        "kl-under-a-geometric-ratio",
        "take several updates from each batch with a KL in the reward under GSPO's ratio",
        "the KL of tokens is weighted by a length-normalised ratio, which is the importance weight of nothing",
        "objective.kl.where=loss objective.kl.estimator=k3 objective.kl.weighted=attached, or one update a batch",
        lambda s: s.updates > 1 and s.longest > 1 and bool(s.in_reward) and s.kind in ("gspo", "gspo_token"),
    ),
    Rule(
        "ratios-under-truncated-sampling",
        "take several updates from each batch of answers drawn with top-p, top-k or two temperatures",
        "pi / old is no importance weight of what was drawn from neither: the gradient is that of no policy's reward",
        "sampling.top_p=1.0 sampling.top_k=0 and no sampling.forking, or one update a batch",
        lambda s: s.updates > 1 and s.truncates,
    ),
    Rule(
        "frozen-kl-in-the-reward",
        "take several updates from each batch with a KL in the reward",
        "it stays that of the policy that sampled: the pull of what has moved since is missing",
        "one update a batch, or objective.kl.where=loss with a weight",
        lambda s: s.updates > 1 and bool(s.in_reward),
        refused=False,
    ),
    Rule(
        "kl-of-tokens-in-the-loss",
        "put a KL in the loss of an objective that takes answers token by token",
        "it is the sum of the next tokens' KLs at the prefixes that were drawn, taken as given: on-policy too",
        "level=sequence where there is one, rloo, or kl.where=reward kl.estimator=k1, which are of whole answers",
        lambda s: s.by_token and s.objective.kl_place in ("loss", "clip"),
        refused=False,
    ),
    Rule(
        "token-ratios",
        "take several updates from each batch under ratios of single tokens",
        "how the prefix's probability has changed is left out: exact for answers of one token only",
        "ratios of sequences (level=sequence where there is one, or rloo), or one update a batch",
        lambda s: s.updates > 1 and s.by_token and s.kind not in ("gspo", "gspo_token"),
        refused=False,
    ),
    Rule(
        "geometric-ratios",
        "take several updates from each batch under GSPO's ratio",
        "the ratio to the power 1 / length is no importance weight; it is a measure of distance for the clip",
        "one update a batch, or a small clip",
        lambda s: s.updates > 1 and s.longest > 1 and s.kind in ("gspo", "gspo_token"),
        refused=False,
    ),
    Rule(
        "truncated-sampling",
        "draw answers with top-p or top-k",
        "the gradient is of the reward under the truncated policy's answers, without the truncation's own change",
        "sampling.top_p=1.0 sampling.top_k=0",
        lambda s: s.truncates,
        refused=False,
    ),
)


def broken(situation: Situation) -> list[Rule]:
    """The rules that this situation breaks, refused or not."""
    return [rule for rule in RULES if rule.applies(situation)]


def faults(situation: Situation) -> Iterator[KlimbError]:
    """What is refused, each with what its gradient really is."""
    if situation.objective.allow_bias:
        return
    for rule in broken(situation):
        if rule.refused:
            yield KlimbError(rule.asked, rule.sentence, f"{rule.cure}; objective.allow_bias=true accepts it as it is")
