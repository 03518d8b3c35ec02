"""Learning from another policy's log, where the best policy is known: weighted it is found, unweighted it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.objectives import RPG, Objective, Reinforce
from klimb.objectives.penalty import KL
from klimb.proving import Enumerable, World, world
from klimb.proving.policy import Parameters
from klimb.sources.base import Demands
from klimb.sources.replayed import Replayed
from klimb.training.replaying import by_behaviour
from klimb.types import Completion, Finish, Group, Prompt, Rollout
from tests.sources.test_replayed import log, supplies

BETA = 0.5
START = world("log", Enumerable(words=3, length=2), 0.0, given=True)
MU = START.policy.draw(8, 0.8)
"""Who wrote the log."""
WEIGHTED: dict[str, Objective] = {
    "RPG, urkl": RPG(divergence="urkl", level="sequence", clip="none", beta=BETA, reference="initial"),
    "RPG, rkl, differentiable": RPG(
        divergence="rkl", form="differentiable", level="sequence", clip="none", beta=BETA, reference="initial"
    ),
    "REINFORCE, k3 attached": Reinforce(
        baseline="none", level="sequence", beta=BETA, kl=KL(where="loss", estimator="k3", weighted="attached")
    ),
}
FORWARD = RPG(divergence="ufkl", level="sequence", clip="none", beta=BETA, reference="initial")
STEPS = 800


def best(forward: bool = False) -> torch.Tensor:
    """The policy of the largest E_pi[R] - beta KL, over whole answers, from the definition of its optimum."""
    ref, reward = START.policy.whole(START.ref_logp)[0], START.reward[0]
    if not forward:
        return (ref + reward / BETA).softmax(-1)
    low, high = float(reward.max()) + 1e-9, float(reward.max()) + 100 * BETA  # pi = beta ref / (c - R), with sum one
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float((BETA * ref.exp() / (middle - reward)).sum()) > 1 else (low, middle)
    return BETA * ref.exp() / (low - reward)


def answers(here: World, drawn: list[int], share: list[float]) -> Batch:
    """Answers as rows, each with its share of the weight, its reward as its advantage."""
    rows = here.batch(tuple((0, answer) for answer in drawn))
    count = torch.tensor([len(here.policy.answers[answer]) for answer in drawn])
    weight = (torch.tensor(share, dtype=torch.float64) / count)[rows.row]
    return rows.replace(advantage=rows.reward[rows.row], weight=weight)


def climbed(
    objective: Objective, drawn: Callable[[Parameters], Batch], at: torch.Tensor, steps: int = STEPS
) -> torch.Tensor:
    """The probabilities of the answers after many steps up the gradient, `at` being the tokens of the batch."""
    theta = START.theta.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=0.1)
    for count in range(steps):
        for part in optimizer.param_groups:
            part["lr"] = 0.1 * (1 - count / steps)
        logp = START.policy.logp(theta).flatten()[at]
        batch = drawn(theta.detach())
        optimizer.zero_grad()
        objective.loss(Outputs(logp, torch.zeros_like(logp)), batch).loss.backward()
        optimizer.step()
    return START.policy.whole(START.policy.logp(theta.detach()))[0].exp()


def every() -> tuple[list[int], torch.Tensor]:
    drawn = list(range(len(START.policy.answers)))
    return drawn, START.places(tuple((0, answer) for answer in drawn))


def from_log(objective: Objective, weighted: bool) -> torch.Tensor:
    """Trained on all that the log's writer may say, each answer as often as it says it."""
    drawn, at = every()
    here = replace(START, old=MU)
    batch = answers(here, drawn, here.policy.whole(here.old_logp)[0].exp().tolist())
    return climbed(objective, lambda _: batch if weighted else batch.replace(old=None), at)


def on_policy(objective: Objective, steps: int = STEPS) -> torch.Tensor:
    """Trained on what the policy says itself, at every step anew."""
    drawn, at = every()

    def now(theta: Parameters) -> Batch:
        here = replace(START, old=theta)
        return answers(here, drawn, here.policy.whole(here.old_logp)[0].exp().tolist())

    return climbed(objective, now, at, steps)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The total variation between two policies."""
    return float((one - other).abs().sum() / 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHTED)
def test_weighted_by_pi_over_mu_a_log_leads_where_on_policy_training_leads_and_unweighted_elsewhere(name: str) -> None:
    objective = WEIGHTED[name]
    fresh, logged = on_policy(objective), from_log(objective, weighted=True)
    assert apart(START.policy.whole(START.policy.logp(START.theta))[0].exp(), best()) > 0.3, "it has a way to go"
    assert apart(fresh, best()) < 1e-3
    assert apart(logged, best()) < 1e-3
    assert apart(fresh, logged) < 1e-6, "the same expected gradient at every step"
    assert apart(from_log(objective, weighted=False), best()) > 0.05


@pytest.mark.slow
def test_under_a_forward_kl_the_optimum_is_another_one_and_found_as_well() -> None:
    assert apart(best(), best(forward=True)) > 0.05
    assert float(best(forward=True).sum()) == pytest.approx(1, abs=1e-6)
    assert apart(from_log(FORWARD, weighted=True), best(forward=True)) < 1e-3
    assert apart(from_log(FORWARD, weighted=False), best(forward=True)) > 0.1


@pytest.mark.slow
def test_a_log_of_ten_thousand_draws_leads_there_within_its_noise() -> None:
    here = replace(START, old=MU)
    chance = here.policy.whole(here.old_logp)[0].exp()
    dice = torch.Generator().manual_seed(0)
    found = torch.multinomial(chance, 10_000, replacement=True, generator=dice).bincount(minlength=len(chance))
    drawn, at = every()
    batch = answers(here, drawn, (found / 10_000).tolist())
    objective = WEIGHTED["RPG, urkl"]
    assert apart(climbed(objective, lambda _: batch, at), best()) < 0.05
    assert apart(climbed(objective, lambda _: batch.replace(old=None), at), best()) > 0.1


def test_what_the_source_replays_beside_fresh_answers_climbs_the_same_way_at_every_step(tmp_path: Path) -> None:
    logp, rewards = START.policy.logp(MU)[0], START.reward[0]
    done = [
        Completion(answer, tuple(logp[START.policy.places(k)].tolist()), "", Finish.EOS)
        for k, answer in enumerate(START.policy.answers)
    ]
    rows = tuple(Rollout(one, k, k, {}, float(rewards[k])) for k, one in enumerate(done))
    written = log(tmp_path, Group(Prompt("p", text="", tokens=(1,)), rows))
    (again,) = Replayed(logs=written, prompts=1).open(supplies(demands=Demands("rpg"))).groups(1)
    batch = by_behaviour(Batch.of([replace(again, age=None), again]))
    said = START.policy.whole(logp[None])[0].exp()
    given = {"ref": START.ref_logp[0].repeat(2), "advantage": rewards.repeat(2)[batch.row]}

    def now(theta: Parameters) -> Batch:
        own = START.policy.whole(START.policy.logp(theta))[0].exp()
        share = torch.cat([own, said]) / 2  # each half of the batch is all that its policy says
        return batch.replace(weight=(share / batch.lengths)[batch.row], **given)

    at, objective = every()[1].repeat(2), WEIGHTED["RPG, urkl"]
    there = on_policy(objective, steps=60)
    assert apart(there, START.policy.whole(START.policy.logp(START.theta))[0].exp()) > 0.1, "it is on its way"
    assert apart(climbed(objective, now, at, steps=60), there) < 1e-6
    assert apart(climbed(objective, lambda theta: now(theta).replace(old=None), at, steps=60), there) > 0.02
