"""The rules against biased combinations: each bias is there, and what the rule advises is without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from klimb.batch import Batch
from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.objectives import CISPO, DAPO, GRPO, GSPO, PPO, RLOO, RPG, TOPR, DrGRPO, Objective, Reinforce, ReinforcePP
from klimb.objectives import ReinforcePPBaseline as PPBaseline
from klimb.objectives.penalty import KL
from klimb.objectives.validity import RULES, Situation, broken, faults
from klimb.proving import Target, World, exact_gradient
from klimb.proving.expected import together
from klimb.recipe import Recipe
from tests.faults.runs import SETTINGS
from tests.objectives.kit import PENALTIES, outputs
from tests.objectives.test_exact_gradients import BETA, SEQUENCES, alone, off_by


def penalised(**kl: str) -> Reinforce:
    return Reinforce(baseline="none", level="sequence", beta=BETA, kl=KL.model_validate(kl))


SIDES = {"fkl": "forward", "rkl": "reverse"}


def world(off_policy: bool) -> World:
    return alone(SEQUENCES, 1.0 if off_policy else 0.0)


def exact(here: World, name: str, beta: float) -> Tensor:
    return exact_gradient(Target(SIDES[name], "ref", beta), here)  # type: ignore[arg-type]


def everything(here: World) -> Batch:
    """Every answer once, weighing as much as the old policy is likely to give it: its sum is the expectation."""
    parts = [
        batch.replace(
            advantage=batch.reward[batch.row],
            weight=torch.full((len(batch.row),), probability / len(batch.row), dtype=torch.float64),
        )
        for probability, batch in here.batches
    ]
    return together(parts)


def climbed(here: World, objective: Objective, batch: Batch) -> Tensor:
    """The direction in which the objective climbs on these answers."""
    theta = here.theta.clone().requires_grad_()
    loss = objective.loss(outputs(SEQUENCES.logp(theta).flatten()), batch).loss
    (gradient,) = torch.autograd.grad(-loss, theta)
    return gradient


def targets(way: dict[str, str], off_policy: bool) -> set[str]:
    """Which KL's exact gradient this way of entering has."""
    here, objective = world(off_policy), penalised(**way)
    found = climbed(here, objective, objective.advantage(everything(here)))
    return {name for name in SIDES if off_by(found, exact(here, name, BETA)) < 1e-12}


TABLE: dict[tuple[str, str, str], tuple[set[str], set[str]]] = {
    ("loss", "none", "k1"): (set(), set()),
    ("loss", "none", "k2"): ({"rkl"}, set()),
    ("loss", "none", "k3"): ({"fkl"}, set()),
    ("loss", "attached", "k1"): ({"rkl"}, {"rkl"}),
    ("loss", "attached", "k2"): (set(), set()),
    ("loss", "attached", "k3"): ({"rkl"}, {"rkl"}),
    ("loss", "detached", "k1"): (set(), set()),
    ("loss", "detached", "k2"): ({"rkl"}, {"rkl"}),
    ("loss", "detached", "k3"): ({"fkl"}, {"fkl"}),
    ("reward", "none", "k1"): ({"rkl"}, set()),
    ("reward", "none", "k2"): (set(), set()),
    ("reward", "none", "k3"): (set(), set()),
}
"""On- and off-policy: the divergences whose gradient each way of entering has."""
KL_RULES = {
    "unweighted-kl-off-policy",
    "k1-as-a-loss",
    "attached-k2",
    "k2-or-k3-in-the-reward",
    "frozen-kl-in-the-reward",
}


@pytest.mark.parametrize("off_policy", [False, True], ids=["on", "off"])
@pytest.mark.parametrize("way", PENALTIES, ids=lambda way: "-".join(way.values()))
def test_a_rule_is_broken_exactly_where_the_gradient_is_that_of_no_kl(way: dict[str, str], off_policy: bool) -> None:
    found = targets(way, off_policy)
    assert found == TABLE[way["where"], way["weighted"], way["estimator"]][off_policy]
    names = {rule.name for rule in broken(Situation(penalised(**way), updates=2 if off_policy else 1))}
    assert bool(names & KL_RULES) is (not found)


def test_a_geometric_ratio_does_not_weigh_a_kl_in_the_reward() -> None:
    kl = KL(where="reward", estimator="k1")
    for off_policy in (False, True):
        here = world(off_policy)
        wide: Any = GSPO(eps_low=1.0, eps_high=1e9, beta=BETA, kl=kl)
        batch = everything(here)
        batch = batch.replace(advantage=wide.rewarded(batch)[batch.row])
        # A row's ratio has a gradient of 1 / length, so each token's score is weighed by the row's length here.
        assert off_by(climbed(here, wide, batch), exact(here, "rkl", BETA)) > 1e-2
        assert ("kl-under-a-geometric-ratio" in {r.name for r in broken(Situation(wide, 2 if off_policy else 1))}) is (
            off_policy
        )


def test_the_gradient_under_truncated_sampling_is_another_than_that_of_the_policys_reward() -> None:
    here = world(off_policy=True)
    never = (here.old_logp[0].exp() < 0.2).double()  # a sampler that never draws what is unlikely
    batch = everything(here)
    kept = torch.zeros(len(SEQUENCES.answers), dtype=torch.float64).index_add(0, SEQUENCES.row, never) == 0
    likely = SEQUENCES.whole(here.old_logp)[0].exp() * kept
    assert 0 < float(likely.sum()) < 1
    lengths = torch.bincount(SEQUENCES.row)
    batch = batch.replace(weight=(likely / likely.sum() / lengths)[SEQUENCES.row])
    objective = Reinforce(level="sequence")
    assert off_by(climbed(here, objective, batch), exact(here, "rkl", 0.0)) > 1e-2
    names = {rule.name for rule in broken(Situation(objective, updates=2, truncates=True))}
    assert names == {"ratios-under-truncated-sampling", "truncated-sampling"}


LOSS = KL(where="loss", estimator="k3", weighted="attached")
BY_TOKEN = [kind(beta=0.1, kl=LOSS) for kind in (GRPO, DAPO, GSPO, CISPO, PPO, ReinforcePP, PPBaseline, Reinforce)]
WHOLE = [RLOO(beta=0.1, kl=LOSS), penalised(weighted="attached"), TOPR(beta=0.1, kl=LOSS), RPG(level="sequence")]
NONE = [GRPO(), GRPO(beta=0.1, kl=KL(where="reward", estimator="k1"))]


@pytest.mark.parametrize(
    ("objective", "said"),
    [*((one, True) for one in (*BY_TOKEN, TOPR(level="token", beta=0.1, kl=LOSS), RPG())),
     *((one, False) for one in (*WHOLE, *NONE))],
    ids=lambda value: getattr(value, "type", str(value)),
)  # fmt: skip
def test_a_kl_in_the_loss_of_single_tokens_is_said_and_not_refused(objective: Objective, said: bool) -> None:
    names = {rule.name: rule.refused for rule in broken(Situation(objective))}
    assert names == ({"kl-of-tokens-in-the-loss": False} if said else {})
    assert broken(Situation(objective, longest=1)) == []


PUBLISHED = [
    (Reinforce(), 1), (RLOO(), 1), (RLOO(beta=0.05), 4), (GRPO(), 4), (GRPO(beta=0.04), 1), (DrGRPO(length=9), 4),
    (DAPO(), 16), (GSPO(), 4), (CISPO(), 16), (ReinforcePP(beta=0.01), 4), (PPBaseline(beta=0.01), 1),
    (RPG(), 16), (RPG(reference="initial", beta=1e-3), 16),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "updates"), PUBLISHED, ids=lambda value: getattr(value, "type", str(value)))
def test_what_the_papers_run_is_not_refused(objective: Objective, updates: int) -> None:
    assert list(faults(Situation(objective, updates, longest=1024))) == []


def recipe(**objective: Any) -> Recipe:
    return resolve(Recipe, SETTINGS | {"objective": objective})


def test_a_recipe_that_breaks_a_rule_is_refused_unless_it_allows_the_bias() -> None:
    asked = {"type": "grpo", "beta": 0.1}
    with pytest.raises(SettingsError) as caught:
        recipe(**asked)
    assert len(caught.value.faults) == 1
    text = str(caught.value)
    assert "the gradient of neither KL" in text and "objective.allow_bias=true" in text and "kl.weighted" in text
    assert recipe(**asked, allow_bias=True).objective.allow_bias
    assert recipe(**asked, kl={"weighted": "attached"}).situation.updates == 2


def test_every_rule_has_a_name_of_its_own_and_is_broken_by_something() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    tried = [Situation(penalised(**way), updates) for way in PENALTIES for updates in (1, 2)]
    tried += [Situation(GSPO(beta=0.1, kl=KL(where="reward", estimator="k1")), 2), Situation(RPG(), 2, True, 9)]
    assert {rule.name for situation in tried for rule in broken(situation)} == {rule.name for rule in RULES}
    assert broken(Situation(Objective(), 1)) == [] and Situation(Objective()).kind == ""
