"""Pairs of scored answers: how many, of which, and that neither a tie nor an answer without a score is in one."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from klimb.batch import Batch
from klimb.generation.base import Sampling
from klimb.objectives import DPO
from klimb.objectives.paired import pairs_of
from klimb.sources.base import Supplies
from klimb.sources.online_pairs import OnlinePairs, paired
from klimb.sources.pairing import BestWorst, Pairing, RandomPairs, TopBottom
from klimb.types import Completion, Finish, Group, Label, Prompt, Rollout, Score
from tests.sources.test_online import Parrot

RANKED = (0.5, None, 1.0, 0.0, 1.0, -2.0, 0.5)


def group(*rewards: float | None) -> Group:
    done = [Completion((1, k), (-1.0, -1.0), "", Finish.EOS) for k in range(len(rewards))]
    return Group(
        Prompt("p", tokens=(1,)),
        tuple(Rollout(one, k, k, reward=r) for k, (one, r) in enumerate(zip(done, rewards, strict=True))),
    )


@pytest.mark.parametrize(
    ("pairing", "found"),
    [
        (BestWorst(), ((2, 5),)),
        (TopBottom(k=1), ((2, 5),)),
        (TopBottom(k=2), ((2, 5), (4, 3))),
        (TopBottom(k=3), ((2, 5), (4, 3))),
        (TopBottom(k=100), ((2, 5), (4, 3))),
    ],
)
def test_by_rank_the_best_meets_the_worst_and_the_third_ties_with_the_fourth(
    pairing: Pairing, found: tuple[tuple[int, int], ...]
) -> None:
    assert pairing.pairs(RANKED, 0) == found


@pytest.mark.parametrize("rewards", [(1.0, 1.0), (None, 1.0), (None, None), (1.0,), ()])
@pytest.mark.parametrize("pairing", [BestWorst(), TopBottom(k=3), RandomPairs(count=3)])
def test_ties_and_answers_without_a_score_make_no_pair(pairing: Pairing, rewards: tuple[float | None, ...]) -> None:
    assert pairing.pairs(rewards, 0) == ()


def test_random_pairs_are_all_that_differ_or_so_many_of_them_by_the_seed() -> None:
    rewards = (1.0, 0.0, None, 0.0, 1.0, 2.0)
    every = {(0, 1), (0, 3), (4, 1), (4, 3), (5, 0), (5, 1), (5, 3), (5, 4)}
    assert set(RandomPairs(count=10).pairs(rewards, 3)) == every
    some = [RandomPairs(count=5).pairs(rewards, seed) for seed in range(20)]
    assert all(len(one) == len(set(one)) == 5 and set(one) <= every for one in some)
    assert len(set(some)) > 10 and some[3] == RandomPairs(count=5).pairs(rewards, 3)
    assert set().union(*some) == every


def test_the_most_pairs_are_what_distinct_rewards_give() -> None:
    for pairing in (BestWorst(), TopBottom(k=3), RandomPairs(count=7)):
        for size in range(1, 9):
            assert pairing.most(size) == len(pairing.pairs([float(k) for k in range(size)], 0))


def test_a_batch_has_a_row_for_each_time_that_an_answer_is_in_a_pair_and_every_pair_weighs_the_same() -> None:
    twice = paired(group(1.0, 0.0, 0.0), RandomPairs(count=2))
    batch = Batch.of([twice, paired(group(1.0, 1.0), RandomPairs()), paired(group(0.0, 1.0), RandomPairs())])
    assert batch.label is not None and batch.label.tolist() == [Label.CHOSEN, Label.REJECTED] * 3
    assert batch.group.tolist() == [0, 0, 0, 0, 1, 1] and len(batch.prompts) == 2
    both = pairs_of(batch)
    assert [batch.reward[side].tolist() for side in (both.chosen, both.rejected)] == [[1.0] * 3, [0.0] * 3]
    assert DPO().weighting(batch).tolist() == pytest.approx([1 / 12] * 12)
    assert len(twice.rollouts) == 3, "what was drawn is told and written once"


def test_a_batch_without_a_pair_holds_its_answers_and_learns_nothing() -> None:
    batch = Batch.of([paired(group(1.0, 1.0), BestWorst()), paired(group(None, 2.0), BestWorst())])
    assert batch.label is not None and batch.label.tolist() == [Label.PASSED] * 4
    assert not DPO().weighting(batch).any()


def test_an_opened_source_counts_its_pairs_and_draws_the_same_ones_again() -> None:
    prompts = [Prompt(f"p{index}", text="", tokens=(1,)) for index in range(4)]
    score = lambda asked, done: [{"r": Score.of(float(int(one.text) % 3))} for one in done]  # noqa: E731
    given = Supplies(prompts, Parrot(), Sampling(), score, {"r": 1.0}, lambda: "v", 7, lambda _: nullcontext())
    source = OnlinePairs(prompts=4, completions=6, pairing=RandomPairs(count=4)).open(given)
    found = source.groups(1)
    number = sum(len(one.pairs or ()) for one in found)
    assert source.metrics() == {"preference/paired": 1.0, "preference/pairs": number} and number == 16
    assert source.groups(1) == found
    assert OnlinePairs(completions=6, pairing=RandomPairs(count=4)).learned == 8
