"""The metrics of a step's rollouts: means of what there is, and nothing made up."""

from __future__ import annotations

from klimb.training.summary import summarise
from klimb.types import Completion, Finish, Group, Outcome, Prompt, Rollout, Score


def rollout(length: int, reward: float | None, finish: Finish = Finish.EOS, entropy: float = 0.5) -> Rollout:
    done = Completion((1,) * length, (-1.0,) * length, "", finish, (entropy,) * length)
    score = Score.of(reward) if reward is not None else Score(Outcome.INFRA_FAILED, None, "down")
    return Rollout(done, 0, 0, {"exact": score}, reward)


def test_means_are_over_what_was_scored() -> None:
    groups = [
        Group(Prompt("a", text=""), (rollout(2, 1.0), rollout(4, None, Finish.LENGTH, 1.0))),
        Group(Prompt("b", text=""), (rollout(1, 0.0), rollout(1, 0.5))),
    ]
    out = summarise(groups)
    assert out["reward/mean"] == out["reward/exact"] == 0.5
    assert out["outcome/infra_failed"] == 0.25 and out["outcome/scored"] == 0.75
    assert out["length/mean"] == 2.0 and out["length/truncated"] == 0.25 and out["tokens/sampled"] == 8.0
    assert out["group/degenerate"] == 0.5, "one scored completion says nothing about which is better"
    assert out["policy/entropy"] == (2 * 0.5 + 4 * 1.0 + 2 * 0.5) / 8


def test_a_mean_of_nothing_is_left_out() -> None:
    out = summarise([Group(Prompt("a", text=""), (rollout(1, None),))])
    assert "reward/mean" not in out and "reward/exact" not in out
