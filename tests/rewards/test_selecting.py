"""A bandit over the sources: it asks the chosen one alone, and learns once a step is over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from klimb.rewards.combining import AnyCombining
from klimb.rewards.combining.base import Opening
from klimb.rewards.combining.selecting import Selecting, margin
from klimb.types import Outcome, Prompt, Score

SETTINGS: TypeAdapter[Any] = TypeAdapter(AnyCombining)
WEIGHTS = {"good": 1.0, "bad": 0.5, "shown": 0.0, "judge": 0.0}
PROMPTS = [Prompt(f"p{number}") for number in range(24)]


def states(prompts: Sequence[Prompt]) -> np.ndarray:
    """Two kinds of prompts, told apart by the first number."""
    return np.array([[1.0, 0.0, 0.2] if int(prompt.id[1:]) % 2 else [0.0, 1.0, 0.2] for prompt in prompts])


def opened(seed: int = 0, **settings: Any) -> Selecting:
    made = SETTINGS.validate_python({"type": "selected", "judge": "judge", "share": 1.0, **settings})
    combiner = made.open(Opening(WEIGHTS, seed, initial=states, current=states))
    assert isinstance(combiner, Selecting)
    return combiner


def answers(prompt: Prompt, wanted: frozenset[str], step: int, mixed: bool) -> list[dict[str, Score]]:
    """Four answers; `good` sees them as the judge does, `bad` the other way round (on odd prompts, where `mixed`)."""
    truth = np.random.default_rng([step, int(prompt.id[1:])]).random(4)
    turned = mixed and int(prompt.id[1:]) % 2 == 1
    good, bad = (1 - truth, truth) if turned else (truth, 1 - truth)
    values = {"good": good, "bad": bad, "shown": truth, "judge": truth}
    return [{name: Score.of(values[name][k]) for name in sorted(wanted)} for k in range(4)]


def go(combiner: Selecting, steps: int, mixed: bool = False, start: int = 1, loss: float = 1.0) -> dict[str, float]:
    told: dict[str, float] = {}
    for step in range(start, start + steps):
        wanted = combiner.wanted(step, PROMPTS)
        combiner.rewards(step, PROMPTS, [answers(p, w, step, mixed) for p, w in zip(PROMPTS, wanted, strict=True)])
        told = combiner.observe(step, loss)
    return told


def test_only_the_chosen_source_is_asked_and_its_score_is_the_reward() -> None:
    combiner = opened(share=0.5)
    wanted = combiner.wanted(1, PROMPTS)
    assert all(len({"good", "bad"} & one) == 1 and "shown" in one for one in wanted)
    judged = ["judge" in one for one in wanted]
    assert 0 < sum(judged) < len(judged) and judged == ["judge" in one for one in combiner.wanted(2, PROMPTS)]
    combiner.wanted(1, PROMPTS)
    groups = [answers(p, w, 1, False) for p, w in zip(PROMPTS, wanted, strict=True)]
    rewards = combiner.rewards(1, PROMPTS, groups)
    arms = [next(iter({"good", "bad"} & one)) for one in wanted]
    assert rewards == [[row[arm].value for row in group] for arm, group in zip(arms, groups, strict=True)]
    told = combiner.observe(1, None)
    assert told["bandit/share_good"] == arms.count("good") / len(arms)


def test_the_width_of_every_arm_is_told_and_falls_as_it_is_chosen() -> None:
    combiner = opened(bandit={"type": "linucb"})
    first = go(combiner, 1)
    assert first["bandit/width_good"] == first["bandit/width_bad"] == pytest.approx(1.0), "of contexts of length one"
    later = go(combiner, 30, start=2)
    assert later["bandit/width_good"] < 0.1 < later["bandit/width_bad"] < 1.0
    assert later["bandit/share_good"] == 1.0 and later["bandit/width"] == pytest.approx(later["bandit/width_good"])


@pytest.mark.parametrize("bandit", ["linucb", "thompson", "ucb1", "exp3", "epsilon_greedy"])
def test_the_arm_that_the_judge_agrees_with_is_found(bandit: str) -> None:
    told = go(opened(bandit={"type": bandit}), 30)
    assert told["bandit/share_good"] > 0.75
    assert 0.5 < told["bandit/gain"] <= 1.0


def test_where_the_prompt_decides_the_context_finds_it_and_a_bandit_without_one_cannot() -> None:
    combiner = opened()
    go(combiner, 20, mixed=True)
    wanted = combiner.wanted(99, PROMPTS)
    assert ["bad" in one for one in wanted] == [int(prompt.id[1:]) % 2 == 1 for prompt in PROMPTS]
    assert go(opened(bandit={"type": "ucb1"}), 20, mixed=True)["bandit/gain"] < 0.75


@pytest.mark.parametrize("gain", ["negative_loss", "held_out"])
def test_one_choice_a_batch_learns_from_the_loss_or_from_the_judges_rise(gain: str) -> None:
    combiner = opened(choice="batch", gain={"type": gain})
    shares = set()
    for step in range(1, 30):
        told = go(combiner, 1, start=step, loss=0.1 if "good" in str(combiner.wanted(step, PROMPTS)[0]) else 2.0)
        shares.add(told["bandit/share_good"])
    assert shares == {0.0, 1.0} and (told["bandit/share_good"] == 1.0 or gain == "held_out")
    assert told["bandit/saturated"] >= 0.0


def test_a_late_gain_is_that_of_the_step_before() -> None:
    combiner = opened(choice="batch", gain={"type": "held_out"}, bandit={"type": "ucb1"})
    assert "bandit/gain" not in go(combiner, 1), "nothing to compare with yet"
    assert len(combiner.state()["owed.ticket"]) == 1 and combiner.state()["bandit.pulls"].sum() == 0
    assert "bandit/gain" in go(combiner, 1, start=2)
    assert combiner.state()["bandit.pulls"].sum() == 1 and len(combiner.state()["owed.ticket"]) == 1


def test_controls_learn_nothing_and_need_no_context() -> None:
    for bandit in ({"type": "fixed", "arm": 1}, {"type": "random"}, {"type": "round_robin"}):
        combiner = opened(bandit=bandit, context="none", judge="")
        told = go(combiner, 5)
        assert "bandit/gain" not in told and "bandit/width" not in told
        assert told["bandit/share_bad"] == 1.0 if bandit["type"] == "fixed" else 0 < told["bandit/share_bad"] < 1


@pytest.mark.parametrize("bandit", ["fixed", "random", "round_robin", "exp3", "ucb1", "epsilon_greedy"])
@pytest.mark.parametrize("context", ["initial", "current"])
def test_a_bandit_that_reads_no_context_is_shown_none(bandit: str, context: str) -> None:
    made = SETTINGS.validate_python({"type": "selected", "judge": "judge", "bandit": {"type": bandit}})
    blind = made.model_copy(update={"context": context}).open(Opening(WEIGHTS))  # nothing there gives a state
    assert go(blind, 3) == go(opened(bandit={"type": bandit}, context="none", share=0.25), 3)
    assert made.sees == "none" and opened().own.sees == "initial"


def test_contexts_that_an_older_run_kept_for_such_a_bandit_are_forgotten() -> None:
    asked = {"bandit": {"type": "exp3"}, "gain": {"type": "held_out"}}
    combiner, again = opened(**asked), opened(**asked)
    go(combiner, 2)
    owed = combiner.state()["owed.context"]
    again.restore(combiner.state() | {"owed.context": owed.new_ones(len(owed), 33)})
    assert len(owed) and go(again, 2, start=3) == go(combiner, 2, start=3)
    assert again.state()["owed.context"].shape[1] == 0


def test_the_paper_s_mode_makes_one_choice_from_the_mean_of_the_policy_s_own_states() -> None:
    combiner = opened(type="selected_paper", judge="")
    told = go(combiner, 3)
    assert told["bandit/share_good"] in (0.0, 1.0) and told["bandit/gain"] == 0.5
    assert combiner.state()["bandit.gram"].shape == (2, 3, 3)


def test_rounds_of_a_step_go_on_where_the_last_one_ended() -> None:
    whole, parts = opened(), opened()
    wanted = whole.wanted(1, PROMPTS)
    assert wanted == parts.wanted(1, PROMPTS[:10]) + parts.wanted(1, PROMPTS[10:], first=10)
    for combiner, cuts in ((whole, [0, 24]), (parts, [0, 10, 24])):
        for start, end in pairwise(cuts):
            groups = [answers(p, w, 1, False) for p, w in zip(PROMPTS[start:end], wanted[start:end], strict=True)]
            combiner.rewards(1, PROMPTS[start:end], groups, start)
    assert whole.observe(1, 1.0) == parts.observe(1, 1.0)


def test_a_step_that_is_not_over_leaves_no_trace_and_a_restored_state_goes_on_to_the_same_bits() -> None:
    combiner, twin = opened(), opened()
    assert twin.state() == {}
    go(combiner, 4)
    saved = combiner.state()
    combiner.wanted(5, PROMPTS)
    assert all(bool((combiner.state()[name] == value).all()) for name, value in saved.items())
    twin.restore(saved)
    assert go(twin, 5, start=5) == go(combiner, 5, start=5)
    assert all(bool((twin.state()[name] == value).all()) for name, value in combiner.state().items())
    twin.restore({})
    assert twin.state() == {} and twin.observe(1, 1.0) == {}


def test_a_state_of_other_arms_is_refused() -> None:
    combiner = opened()
    go(combiner, 1)
    made = SETTINGS.validate_python({"type": "selected", "judge": "judge"})
    other = made.open(Opening({"a": 1.0, "b": 1.0, "c": 1.0, "judge": 0.0}, 0, initial=states))
    with pytest.raises(KeyError, match="2 arms where there are 3"):
        other.restore(combiner.state())


def test_a_choice_without_a_score_that_counts_is_forgiven() -> None:
    combiner = opened()
    wanted = combiner.wanted(1, PROMPTS[:2])
    failed = Score(Outcome.INFRA_FAILED, None, "down")
    groups = [[dict.fromkeys(one, failed) for _ in range(4)] for one in wanted]
    assert combiner.rewards(1, PROMPTS[:2], groups) == [[None] * 4] * 2
    assert "bandit/gain" not in combiner.observe(1, None)
    assert combiner.state()["bandit.pulls"].sum() == 0 and combiner.state()["bandit.count"].sum() == 2


def test_the_margin_is_numpys_correlation_and_says_nothing_where_the_judge_is_constant() -> None:
    both = np.random.default_rng(0).normal(size=(9, 2))
    assert margin(both) == pytest.approx(np.corrcoef(both.T)[0, 1], rel=1e-12)
    assert margin(np.c_[np.ones(9), both[:, 0]]) == 0.0, "the arm tells nothing apart that the judge does"
    assert margin(np.c_[both[:, 0], np.ones(9)]) is None and margin(both[:1]) is None, "nothing is known of the arm"


BAD = {
    "one arm": ({}, {"good": 1.0, "judge": 0.0}, "choose among at least two rewards"),
    "no judge": ({"judge": ""}, WEIGHTS, "gain margin trusts a judge"),
    "a judge that is an arm": ({"judge": "bad"}, WEIGHTS, "it is an arm"),
    "a judge that is not there": ({"judge": "x"}, WEIGHTS, "combining.judge names reward 'x'"),
    "no context": ({"context": "none"}, WEIGHTS, "linucb, which reads a context"),
    "an arm too far": ({"bandit": {"type": "fixed", "arm": 2}}, WEIGHTS, "combining.bandit.arm=2"),
    "shares of others": ({"bandit": {"type": "random", "shares": (1.0,)}}, WEIGHTS, "1 combining.bandit.shares"),
    "the loss of each prompt": ({"gain": {"type": "negative_loss"}}, WEIGHTS, "one loss for all of its prompts"),
    "a loss that is not measured": ({"gain": {"type": "loss_decrease"}}, WEIGHTS, "does not measure the loss again"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_do_not_go_together_are_named(name: str) -> None:
    settings, weights, said = BAD[name]
    made = SETTINGS.validate_python({"type": "selected", "judge": "judge", **settings})
    faults = [fault.line() for fault in made.conflicts(weights)]
    assert len(faults) == 1 and said in faults[0]
