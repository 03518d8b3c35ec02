"""The page of what combines with what is what the code finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from klimb.objectives.validity import RULES, Situation, broken
from klimb.proving.matrix import page
from klimb.proving.rules import EVIDENCE, lines, row


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


def test_the_page_has_every_rule_with_its_sentence_and_only_truncation_is_not_proved(root: Path) -> None:
    text = (root / "docs/validity.md").read_text("utf-8")
    assert [rule.name for rule, _ in lines()] == [rule.name for rule in RULES]
    for rule in RULES:
        assert f"| `{rule.name}` | {'refused' if rule.refused else 'said'} | {rule.sentence} |" in text
    assert {rule.name for rule, evidence in lines() if evidence is None} == {
        "ratios-under-truncated-sampling",
        "truncated-sampling",
    }
    assert set(EVIDENCE) < {rule.name for rule in RULES}


FAST = ("attached-k2", "k1-as-a-loss")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in EVIDENCE])
def test_what_is_shown_of_a_rule_breaks_it_and_what_is_advised_does_not(name: str) -> None:
    evidence = EVIDENCE[name]
    updates = 2 if evidence.off_policy else 1
    assert name in {rule.name for rule in broken(evidence.situation)}
    assert name not in {rule.name for rule in broken(Situation(evidence.advised, updates))}
    for objective in (evidence.objective, evidence.advised):
        assert row(objective, evidence.off_policy).holds
    assert evidence.found != evidence.mended
    others = ("no target", "reward + forward KL to old", "0.6667 reward - reverse KL to ref per token")
    assert evidence.found.startswith(others), "not what is meant to be climbed"
