"""The page of what combines with what is what the code finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from klimb.objectives import Reinforce
from klimb.objectives.validity import RULES, broken
from klimb.proving import Enumerable, Target, exact_gradient, expected_gradient, world
from klimb.proving.matrix import page
from klimb.proving.rules import EVIDENCE, TOP_P, answers, lines
from klimb.proving.worlds import truncated


def test_the_committed_page_is_the_generated_one(root: Path) -> None:
    assert (root / "docs/validity.md").read_text("utf-8") == page()


def test_the_page_says_the_facts_that_the_papers_argue_about(root: Path) -> None:
    text = (root / "docs/validity.md").read_text("utf-8")
    forward, reverse = "-forward KL to ref", "-reverse KL to ref"
    for line in (
        "| k1 | nothing | nothing | +forward KL to old | +forward KL to old |",
        f"| k3 | {forward} | {forward} per token | no target | no target |",
        f"| w k3 | {reverse} | {reverse} per token | {reverse} | {reverse} per token |",
        f"| sg(w) k3 | {forward} | {forward} per token | {forward} | {forward} per token |",
        "| token ratios | reward | reward | reward | no target |",
        "| group | 0.6667 reward | 0.6667 reward |",
        "| batch | 0.8333 reward | 0.8333 reward |",
        "| moving | reward | reward |",
        "| critic (PPO's, any values) | reward | reward |",
        "| none, reinforce, Jeffreys | reward | reward - 0.5 Jeffreys KL to old | reward - 0.5 Jeffreys KL to old |",
    ):
        assert line in text


def test_the_page_has_every_rule_with_its_sentence_and_its_proof(root: Path) -> None:
    text = (root / "docs/validity.md").read_text("utf-8")
    assert [rule.name for rule, _ in lines()] == [rule.name for rule in RULES]
    for rule in RULES:
        assert f"| `{rule.name}` | {'refused' if rule.refused else 'said'} | {rule.sentence} |" in text
    assert set(EVIDENCE) == {rule.name for rule in RULES}


FAST = ("attached-k2", "kl-under-a-geometric-ratio", "geometric-ratios")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in EVIDENCE])
def test_what_is_shown_of_a_rule_breaks_it_and_what_is_advised_does_not(name: str) -> None:
    evidence = EVIDENCE[name]
    found, otherwise, mended = rows = (evidence.found, evidence.otherwise, evidence.mended)
    assert name in {rule.name for rule in broken(evidence.situation)}
    assert name not in {rule.name for rule in broken(evidence.cured)}
    assert all(row.holds for row in rows)
    assert "no target" not in (otherwise.found, mended.found), "nothing but what the rule is about hides the target"
    assert found.found not in (otherwise.found, mended.found)
    assert "truncated sampling" in found.stated or not evidence.truncates
    meant = {"k1-as-a-loss": "reward + forward KL to old", "frozen-kl-in-the-reward": "reward - frozen KL to ref"}
    meant |= {"kl-of-tokens-in-the-loss": "0.6667 reward - reverse KL to ref per token"}
    assert found.found == meant.get(name, "no target")


def test_a_truncated_sampler_draws_the_likeliest_words_alone_and_old_stays_whole() -> None:
    here = world("", Enumerable(words=4, length=1), 0.5)
    likely = here.old.softmax(-1).flatten()
    order = likely.argsort(descending=True)
    cut = truncated(here, float(likely[order[:2]].sum()) - 1e-6)
    kept = likely[order[:2]] / likely[order[:2]].sum()
    torch.testing.assert_close(cut.likely.flatten()[order[:2]], kept, rtol=0, atol=1e-14)
    assert cut.likely.flatten()[order[2:]].tolist() == [0.0, 0.0]
    assert torch.equal(cut.old_logp, here.old_logp)
    assert sum(probability for probability, _ in cut.outcomes) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(truncated(here, 1.0).likely, here.likely)


def test_truncated_on_policy_the_gradient_is_that_of_the_truncated_reward_but_for_the_cuts_own_change() -> None:
    here = truncated(answers(0.0), TOP_P)
    theta = here.theta.clone().requires_grad_()
    whole = here.policy.whole(here.policy.logp(theta))
    surface = (here.likely * here.reward * whole).sum() / here.policy.prompts
    (meant,) = torch.autograd.grad(surface, theta)
    objective = Reinforce(baseline="none", level="sequence")
    torch.testing.assert_close(expected_gradient(objective, here), meant, rtol=0, atol=1e-12)


def test_a_frozen_kl_is_the_difference_quotient_of_its_definition() -> None:
    here = world("", Enumerable(words=2, length=2, prompts=2), 0.5)
    found = exact_gradient(Target("frozen", "ref", 0.3, reward=0.0), here)

    def value(theta: torch.Tensor) -> float:
        now = here.policy.whole(here.policy.logp(theta)).exp()
        gap = here.policy.whole(here.old_logp) - here.policy.whole(here.ref_logp)
        return -0.3 * float((now * gap).sum()) / 2

    step = torch.zeros_like(here.theta)
    step[1, 1, 0] = 1e-5
    assert float(found[1, 1, 0]) == pytest.approx(
        (value(here.theta + step) - value(here.theta - step)) / 2e-5, abs=1e-9
    )
    assert abs(float(found[1, 1, 0])) > 1e-4
