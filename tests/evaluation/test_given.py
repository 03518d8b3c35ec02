"""What is measured of given answers: gaps, drifts, likelihood, and where they are cut."""

from __future__ import annotations

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.evaluation.given import answered, drifts, gaps, heard, implicit, paired
from klimb.types import Finish, Prompt, Reply

GIVEN = {
    "pair": (Reply("yes", True), Reply("no", False)),
    "alone": (Reply("a", True),),
    "bad": (Reply("never", False),),
}
PROMPTS = [Prompt(name, tokens=(1,)) for name in GIVEN]


class Constant:
    """Gives every token the same log-prob; an answer is its letters and an EOS."""

    def __init__(self, logp: float) -> None:
        self.logp = logp

    def __call__(self, batch: Batch) -> Outputs:
        return Outputs(torch.full((len(batch.tokens),), self.logp), torch.zeros(len(batch.tokens)))


def encode(_: Prompt, text: str) -> tuple[int, ...]:
    return (*map(ord, text), 2)


def test_each_answer_has_its_own_sums_and_only_pairs_have_gaps() -> None:
    policy, reference = Constant(-0.5), Constant(-0.75)
    groups = [answered(prompt, GIVEN[prompt.id], encode, None) for prompt in PROMPTS]
    found = heard(groups, policy, reference, 5)
    assert [(one.prompt, one.chosen, one.logp, one.ratio, one.tokens) for one in found] == [
        ("pair", True, -2.0, 1.0, 4), ("pair", False, -1.5, 0.75, 3), ("alone", True, -1.0, 0.5, 2),
        ("bad", False, -3.0, 1.5, 6),
    ]  # fmt: skip
    assert gaps(found) == {"pair": 0.25}
    assert drifts(found) == {"eval/nll": 0.5, "eval/drift_chosen": 0.75, "eval/drift_rejected": 1.125}
    assert drifts(found[3:]) == {"eval/drift_rejected": 1.5} and drifts([]) == {} and heard([], policy, policy, 5) == []


def test_a_tie_is_half_right_and_no_pairs_are_no_share() -> None:
    found = implicit([2.0, 0.0, -1.0, 0.5])
    assert found["eval/implicit_accuracy"] == 2.5 / 4 and found["eval/implicit_gap"] == pytest.approx(0.375)
    assert implicit([]) == {}


def test_held_out_answers_are_cut_as_those_of_training_are() -> None:
    (pair,) = paired(PROMPTS, GIVEN, encode, 3)
    assert [(row.completion.tokens, row.completion.finish) for row in pair.rollouts] == [
        (tuple(map(ord, "yes")), Finish.LENGTH),
        ((*map(ord, "no"), 2), Finish.EOS),
    ]
