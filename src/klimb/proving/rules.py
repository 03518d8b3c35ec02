"""Each rule against biased combinations beside a proof: an objective that breaks it, and one that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import torch

from klimb.objectives import GSPO, DrGRPO, GSPOToken, Objective, Reinforce
from klimb.objectives.penalty import KL
from klimb.objectives.validity import RULES, Rule, Situation
from klimb.proving.catalog import FAR, REWARD, changed, worlds
from klimb.proving.makeup import makeup
from klimb.proving.policy import Enumerable
from klimb.proving.table import Row, proved
from klimb.proving.worlds import World, truncated, world

TOP_P = 0.7
"""What a truncated sampler keeps."""


def answers(drift: float) -> World:
    """Answers of one or two tokens."""
    return worlds(drift)[1]


@lru_cache(maxsize=2)
def alike(drift: float) -> World:
    """Answers of two tokens each, so that no mean over an answer is a bias, and their advantages given."""
    return world("alike", Enumerable(words=2, length=2, ends=False), drift, given=True)


@lru_cache(maxsize=2)
def unrewarded(drift: float) -> World:
    """The same under the objective's own advantages and no reward, so that a KL is all that is there."""
    here = replace(alike(drift), given=False)
    return replace(here, reward=torch.zeros_like(here.reward))


@dataclass(frozen=True, slots=True)
class Evidence:
    """An objective that breaks the rule, on-policy or off-policy, and one as the rule advises.

    `here` is where: in a world in which nothing else hides what the rule is about.
    """

    objective: Objective
    advised: Objective
    off_policy: bool = True
    here: Callable[[float], World] = answers
    truncates: bool = False

    @property
    def situation(self) -> Situation:
        """What a run with it looks like to the rules."""
        return Situation(self.objective, 2 if self.off_policy else 1, self.truncates)

    @property
    def cured(self) -> Situation:
        """The same of what is advised."""
        return Situation(self.advised, 2 if self.off_policy else 1)

    @property
    def found(self) -> Row:
        """The proof of what breaks the rule."""
        return _row(self.objective, self._world(self.off_policy, self.truncates), self.off_policy)

    @property
    def mended(self) -> Row:
        """The proof of what is advised."""
        return _row(self.advised, self._world(self.off_policy, False), self.off_policy)

    @property
    def otherwise(self) -> Row:
        """The proof of the same objective where the rule says nothing: on-policy, without a KL, not truncated."""
        kept = self.objective if self.off_policy or self.truncates else changed(self.objective, beta=0.0)
        off_policy = self.off_policy and self.truncates
        return _row(kept, self._world(off_policy, False), off_policy)

    def _world(self, off_policy: bool, truncates: bool) -> World:
        here = self.here(FAR if off_policy else 0.0)
        return truncated(here, TOP_P) if truncates else here


@lru_cache(maxsize=64)
def _row(objective: Objective, here: World, off_policy: bool) -> Row:
    return proved(objective, makeup(objective), here, "far" if off_policy else "on")


def _kl(**kl: str) -> Reinforce:
    """Answers' own ratios, no baseline and no clip, so that whatever is biased is the KL."""
    return Reinforce(baseline="none", level="sequence", beta=1.0, kl=KL.model_validate(kl))


_K3 = KL(estimator="k3", weighted="attached")
_GSPO, _GSPO_TOKEN = GSPO(eps_low=1.0, eps_high=1e9), GSPOToken(eps_low=1.0, eps_high=1e9, beta=1.0)
_TOKENS = DrGRPO(length=1, eps_low=1.0, eps_high=1e9)
_SEQUENCE = Reinforce(baseline="none", level="sequence")
EVIDENCE: Mapping[str, Evidence] = MappingProxyType(
    {
        "unweighted-kl-off-policy": Evidence(_kl(estimator="k3"), _kl(estimator="k3", weighted="detached")),
        "k1-as-a-loss": Evidence(_kl(estimator="k1"), _kl(estimator="k1", weighted="attached")),
        "attached-k2": Evidence(
            _kl(estimator="k2", weighted="attached"), _kl(estimator="k2", weighted="detached"), off_policy=False
        ),
        "k2-or-k3-in-the-reward": Evidence(
            _kl(where="reward", estimator="k3"), _kl(where="reward", estimator="k1"), off_policy=False
        ),
        "kl-under-a-geometric-ratio": Evidence(
            changed(_GSPO_TOKEN, kl=REWARD), changed(_GSPO_TOKEN, kl=_K3), here=unrewarded
        ),
        "ratios-under-truncated-sampling": Evidence(_SEQUENCE, _SEQUENCE, truncates=True),
        "frozen-kl-in-the-reward": Evidence(
            _kl(where="reward", estimator="k1"), _kl(estimator="k3", weighted="attached")
        ),
        "kl-of-tokens-in-the-loss": Evidence(
            changed(_TOKENS, beta=1.0, kl=_K3), _kl(estimator="k3", weighted="attached"), off_policy=False
        ),
        "token-ratios": Evidence(_TOKENS, _SEQUENCE),
        "geometric-ratios": Evidence(_GSPO, _SEQUENCE, here=alike),
        "truncated-sampling": Evidence(_SEQUENCE, _SEQUENCE, off_policy=False, truncates=True),
    }
)
"""By the rule's name; every rule has one."""


def lines() -> Iterator[tuple[Rule, Evidence]]:
    """Each rule with its evidence."""
    return ((rule, EVIDENCE[rule.name]) for rule in RULES)
