"""The reference's log-probs of given answers: computed once, apart from samples, and kept in checkpoints."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.training.remembered import Remembered
from klimb.types import Completion, Finish, Group, Label, Prompt, Rollout


class Counting:
    """Gives each token its id as its log-prob, and counts the tokens that it was asked about."""

    asked = 0

    def __call__(self, batch: Batch) -> Outputs:
        self.asked += len(batch.tokens)
        return Outputs(batch.tokens.to(torch.float32), torch.zeros(len(batch.tokens)))


def batch() -> Batch:
    def row(tokens: tuple[int, ...], seed: int, label: Label) -> Rollout:
        return Rollout(Completion(tokens, (), "", Finish.EOS), 0, seed, label=label)

    pair = (row((5, 6), 1, Label.CHOSEN), row((7,), 2, Label.REJECTED))
    fresh = (row((8,), 3, Label.FRESH), row((9, 10), 4, Label.FRESH))
    return Batch.of([Group(Prompt("p", tokens=(1,)), pair), Group(Prompt("p", tokens=(1,)), fresh)])


def test_given_answers_are_computed_once_and_samples_each_time() -> None:
    policy = Counting()
    reference = Remembered(cast(Any, policy))
    for asked in (6, 9):
        assert reference(batch()).logp.tolist() == [5, 6, 7, 8, 9, 10] and policy.asked == asked
    other = Remembered(cast(Any, policy))
    other.restore(reference.state())
    assert other(batch()).logp.tolist() == [5, 6, 7, 8, 9, 10] and policy.asked == 12
    assert other.numbers() == {} and other.observe(batch(), None) == {}
    assert Remembered(cast(Any, policy), samples=False)(batch()).logp.tolist() == [5, 6, 7, 0, 0, 0]
    assert policy.asked == 15, "samples whose whole distributions are read are not computed for nothing"


@pytest.mark.parametrize(("asked", "said"), [((1,), (6, 6)), ((1,), (5, 6, 7)), ((3,), (5, 6)), ((1, 5), (6,))])
def test_an_answer_with_the_old_name_and_another_text_is_another_answer(
    asked: tuple[int, ...], said: tuple[int, ...]
) -> None:
    policy = Counting()
    reference = Remembered(cast(Any, policy))
    reference(batch())
    row = Rollout(Completion(said, (), "", Finish.EOS), 0, 1, label=Label.CHOSEN)
    found = reference(Batch.of([Group(Prompt("p", tokens=asked), (row,))]))
    assert found.logp.tolist() == list(said) and policy.asked == 6 + len(said)


def test_a_batch_without_labels_is_always_computed() -> None:
    policy = Counting()
    reference = Remembered(cast(Any, policy))
    plain = batch().replace(label=None, key=None)
    assert reference(plain).logp.tolist() == [5, 6, 7, 8, 9, 10] and reference.state() == {}
