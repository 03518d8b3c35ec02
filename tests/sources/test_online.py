"""The online source: which prompts, which seeds, and what a failed score does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from klimb.generation.base import Request, Sampling
from klimb.seeds import draw_seed
from klimb.sources.base import Supplies
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


def experience(prompts: int = 3, completions: int = 2, count: int = 5, seed: int = 7) -> OnlineExperience:
    asked = [Prompt(id=f"p{index}", text="") for index in range(count)]
    weights = {"exact": 2.0, "shown": 0.0}
    supplies = Supplies(asked, Parrot(), Sampling(), score_all, weights, lambda: "v1", seed, lambda _: nullcontext())
    return OnlineExperience(Online(prompts=prompts, completions=completions), supplies)


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
