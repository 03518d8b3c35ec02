"""The online source: which prompts, which seeds, and what a failed score does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from klimb.generation.base import Request, Sampling
from klimb.seeds import draw_seed
from klimb.sources.base import ScoreAll, Supplies
from klimb.sources.online import Online, OnlineExperience
from klimb.types import Completion, Finish, Outcome, Prompt, Score


class Parrot:
    """Answers every request with its own seeds."""

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Completion, ...]]:
        return [tuple(Completion((seed % 97,), (-1.0,), str(seed), Finish.EOS) for seed in r.seeds) for r in requests]

    def refresh(self) -> None: ...

    def describe(self) -> str:
        return "a parrot"


def score_all(prompts: Sequence[Prompt], done: Sequence[Completion]) -> list[dict[str, Score]]:
    bad = Score(Outcome.TIMED_OUT, None, "too slow")
    return [{"exact": bad if int(c.text) % 3 == 0 else Score.of(1.0), "shown": Score.of(5.0)} for c in done]


def experience(
    prompts: int = 3, completions: int = 2, count: int = 5, seed: int = 7, dynamic: int = 0, score: ScoreAll = score_all
) -> OnlineExperience:
    asked = [Prompt(id=f"p{index}", text="") for index in range(count)]
    weights = {"exact": 2.0, "shown": 0.0}
    supplies = Supplies(asked, Parrot(), Sampling(), score, weights, lambda: "v1", seed, lambda _: nullcontext())
    return OnlineExperience(Online(prompts=prompts, completions=completions, dynamic=dynamic), supplies)


def test_each_pass_visits_every_prompt_once_in_another_order() -> None:
    source = experience(prompts=3, count=5)
    visits = [index for step in range(1, 11) for index in source.indices(step)]
    passes = [visits[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in passes)
    assert len({tuple(one) for one in passes}) > 3


def test_a_step_depends_on_its_number_and_the_seed_only() -> None:
    assert experience().groups(4) == experience().groups(4)
    assert experience().indices(1) != experience(seed=8).indices(1) or experience().indices(2) != experience(
        seed=8
    ).indices(2)
    first = experience().groups(1)[0]
    assert [r.seed for r in first.rollouts] == [draw_seed(7, 1, first.prompt.id, k) for k in range(2)]
    assert [r.completion.text for r in first.rollouts] == [str(r.seed) for r in first.rollouts]


def test_a_prompt_asked_twice_in_a_step_gets_other_seeds() -> None:
    groups = experience(prompts=4, count=2).groups(1)
    seeds = [rollout.seed for group in groups for rollout in group.rollouts]
    assert len(set(seeds)) == 8


def test_a_failed_score_is_no_reward_and_a_source_of_weight_zero_is_only_shown() -> None:
    rollouts = [rollout for step in range(1, 6) for group in experience().groups(step) for rollout in group.rollouts]
    failed = [r for r in rollouts if r.seed % 3 == 0]
    assert failed and len(failed) < len(rollouts)
    assert all(r.reward is None and r.scores["exact"].outcome is Outcome.TIMED_OUT for r in failed)
    assert {r.reward for r in rollouts if r.seed % 3} == {2.0}


def coin(prompts: Sequence[Prompt], done: Sequence[Completion]) -> list[dict[str, Score]]:
    """Half of the groups of two are degenerate."""
    return [{"exact": Score.of(float(int(c.text) % 2))} for c in done]


def flat(prompts: Sequence[Prompt], done: Sequence[Completion]) -> list[dict[str, Score]]:
    return [{"exact": Score.of(1.0)} for _ in done]


def test_dynamic_sampling_asks_further_prompts_until_every_group_has_a_signal() -> None:
    for step in range(1, 6):
        source = experience(dynamic=9, count=200, score=coin)
        groups = source.groups(step)
        assert len(groups) == 3
        assert not any(group.degenerate for group in groups)
        drawn, told = source.metrics()["group/drawn"], source.metrics()["group/degenerate"]
        assert told == 1 - 3 / drawn
        asked = [f"p{index}" for index in source.indices(step)]
        assert [asked.index(g.prompt.id) for g in groups] == sorted(asked.index(g.prompt.id) for g in groups)
        assert experience(dynamic=9, count=200, score=coin).groups(step) == groups, "a function of seed and step"
        for group in groups:
            assert [r.seed for r in group.rollouts] == [draw_seed(7, step, group.prompt.id, k) for k in range(2)]


def test_dynamic_sampling_gives_seeds_of_its_own_to_a_prompt_that_comes_again_in_a_later_round() -> None:
    source = experience(prompts=2, count=1, dynamic=5, score=coin)
    groups = source.groups(1)
    assert source.metrics()["group/drawn"] > 2
    seeds = [rollout.seed for group in groups for rollout in group.rollouts]
    assert len(set(seeds)) == len(seeds) == 4


def test_after_the_last_round_the_groups_that_were_found_are_taken() -> None:
    sizes = set()
    for step in range(1, 12):
        source = experience(dynamic=1, count=200, score=coin)
        groups = source.groups(step)
        sizes.add(len(groups))
        assert source.metrics()["group/drawn"] <= 6
    assert 1 in sizes or 2 in sizes
    assert max(sizes) == 3


def test_where_no_group_has_a_signal_the_first_ones_are_given_as_they_are() -> None:
    source = experience(dynamic=2, count=200, score=flat)
    groups = source.groups(1)
    assert [g.prompt.id for g in groups] == [f"p{index}" for index in source.indices(1)[:3]]
    told = source.metrics()
    assert (told["group/drawn"], told["group/degenerate"], told["group/discarded"]) == (9.0, 1.0, 6.0)
    assert [g.prompt.id for g in source.discarded] == [f"p{index}" for index in source.indices(1)[3:]]


def test_without_dynamic_sampling_degenerate_groups_stay_and_nothing_is_told() -> None:
    source = experience(score=flat)
    assert len(source.groups(1)) == 3
    assert source.metrics() == {}


def test_what_is_discarded_is_all_that_was_drawn_and_is_not_learned_from() -> None:
    for step in range(1, 6):
        source = experience(dynamic=9, count=200, score=coin)
        groups = source.groups(step)
        assert all(group.degenerate for group in source.discarded)
        told = source.metrics()
        assert len(groups) + told["group/discarded"] == told["group/drawn"]
        assert told["tokens/discarded"] == 2 * told["group/discarded"], "two completions of one token each"
        both = [*groups, *source.discarded]
        assert len({rollout.seed for group in both for rollout in group.rollouts}) == 2 * len(both)


def test_dynamic_sampling_of_single_completions_is_one_fault() -> None:
    (fault,) = Online(completions=1, dynamic=2).faults()
    assert "always all equal" in fault.found
    assert Online(completions=2, dynamic=2).faults() == Online(completions=1).faults() == []
