"""Each rule against biased combinations beside a proof: an objective that breaks it, and one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from klimb.objectives import GRPO, GSPO, DrGRPO, Objective, Reinforce
from klimb.objectives.penalty import KL
from klimb.objectives.validity import RULES, Rule, Situation
from klimb.proving.catalog import FAR, REWARD, changed, worlds
from klimb.proving.makeup import makeup
from klimb.proving.match import compare
from klimb.proving.table import Row, proved
from klimb.proving.worlds import World


@dataclass(frozen=True, slots=True)
class Evidence:
    """An objective that breaks the rule, on-policy or off-policy, and one as the rule advises."""

    objective: Objective
    advised: Objective
    off_policy: bool = True

    @property
    def situation(self) -> Situation:
        """What a run with it looks like to the rules."""
        return Situation(self.objective, updates=2 if self.off_policy else 1)

    @property
    def found(self) -> str:
        """The target whose gradient it has, or that there is none; and what `klimb prove` states."""
        return _found(self.objective, self.off_policy)

    @property
    def mended(self) -> str:
        """The same of what is advised."""
        return _found(self.advised, self.off_policy)


def _kl(**kl: str) -> Reinforce:
    """Answers' own ratios, no baseline and no clip, so that whatever is biased is the KL."""
    return Reinforce(baseline="none", level="sequence", beta=1.0, kl=KL.model_validate(kl))


_WIDE = GSPO(eps_low=1.0, eps_high=1e9, beta=1.0)
_K3 = KL(estimator="k3", weighted="attached")
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
        "kl-under-a-geometric-ratio": Evidence(changed(_WIDE, kl=REWARD), changed(_WIDE, kl=_K3)),
        "frozen-kl-in-the-reward": Evidence(
            _kl(where="reward", estimator="k1"), _kl(estimator="k3", weighted="attached")
        ),
        "kl-of-tokens-in-the-loss": Evidence(
            changed(_TOKENS, beta=1.0, kl=_K3), _kl(estimator="k3", weighted="attached"), off_policy=False
        ),
        "token-ratios": Evidence(GRPO(eps_low=1.0, eps_high=1e9), _SEQUENCE),
        "geometric-ratios": Evidence(changed(_WIDE, beta=0.0), _SEQUENCE),
    }
)
"""By the rule's name. The rules on truncated sampling have none: the policies here are not truncated."""


def _found(objective: Objective, off_policy: bool) -> str:
    target = compare(objective, _answers(off_policy)).name
    return f"{target} ({row(objective, off_policy).stated})"


def row(objective: Objective, off_policy: bool) -> Row:
    """The proof in the world of answers with one or two tokens."""
    return proved(objective, makeup(objective), _answers(off_policy), "far" if off_policy else "on")


def _answers(off_policy: bool) -> World:
    return worlds(FAR if off_policy else 0.0)[1]


def lines() -> Iterator[tuple[Rule, Evidence | None]]:
    """Each rule with its evidence, where there is one."""
    return ((rule, EVIDENCE.get(rule.name)) for rule in RULES)
