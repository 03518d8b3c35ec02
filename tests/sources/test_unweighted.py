"""Logs without importance weights: the successes alone, the best answer against the worst, desirable answers or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from klimb.batch import Batch
from klimb.errors import DataError
from klimb.sources.base import Demands
from klimb.sources.logged_labels import LoggedLabels
from klimb.sources.logged_pairs import LoggedPairs
from klimb.sources.successes import Successes
from klimb.sources.unweighted import Unweighted
from klimb.types import Completion, Finish, Label, Prompt
from tests.sources.test_replayed import UNFIT, group, log, rows, supplies

BARE = Demands("any", False)
UNKNOWN = ["no log-probs", "estimated", "unknown sampling", "truncated", "greedy"]
"""What makes a group unfit for importance weights alone."""


@pytest.mark.parametrize("reason", UNKNOWN)
@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (Successes, [(Label.CHOSEN, 1.0)]),
        (LoggedPairs, [(Label.CHOSEN, 1.0), (Label.REJECTED, 0.0)]),
        (LoggedLabels, [(Label.REJECTED, 0.0), (Label.CHOSEN, 1.0)]),
    ],
)
def test_what_only_importance_weights_need_is_not_asked(
    kind: type[Unweighted], labels: list[tuple[Label, float]], reason: str, tmp_path: Path
) -> None:
    source = kind.model_validate({"logs": log(tmp_path, UNFIT[reason], group(1)), "prompts": 2})
    found, _ = source.read(BARE).held
    assert [(row.label, row.reward) for row in found.group.rollouts] == labels
    assert {row.completion.logps for row in found.group.rollouts} == {()}


@pytest.mark.parametrize(
    ("source", "what", "cure"),
    [
        (Successes, "has no answer with a reward of source.success", "a lower source.success"),
        (LoggedPairs, "has no two answers with different rewards", "source.type=logged_labels"),
    ],
)
def test_a_log_with_nothing_to_label_is_refused_with_the_reason(
    source: type[Unweighted], what: str, cure: str, tmp_path: Path
) -> None:
    written = log(tmp_path, group(0, 0.5, 0.5), group(1, None, 0.5), group(2, 0.0, 1.0))
    made = source.model_validate({"logs": written, "prompts": 2})
    with pytest.raises(DataError) as caught:
        made.read(BARE)
    assert "1 of 3 groups fit" in caught.value.found and f"each of these 2 {what}" in caught.value.found
    assert cure in caught.value.cure


@pytest.mark.parametrize(("success", "kind"), [(0.2, "desirable"), (2.0, "undesirable")])
def test_answers_of_one_kind_alone_are_refused_by_kto(success: float, kind: str, tmp_path: Path) -> None:
    source = LoggedLabels(logs=log(tmp_path, group(0, 0.5, 1.0), group(1, 0.5)), prompts=2, success=success)
    with pytest.raises(DataError, match=f"all 3 scored answers are {kind}"):
        source.read(BARE)


def test_a_pair_is_the_best_answer_and_the_worst_and_says_how_old_it_is(tmp_path: Path) -> None:
    written = log(tmp_path, group(0, 0.5, None, 0.0, 1.0, 1.0, 0.0))
    (found,) = LoggedPairs(logs=written, prompts=1).open(supplies()).groups(3)
    assert [(row.k, row.label) for row in found.rollouts] == [(3, Label.CHOSEN), (2, Label.REJECTED)]
    batch = Batch.of([found])
    assert batch.sampler is None and batch.age is not None and batch.age.tolist() == [3, 3]


def test_labelled_answers_stand_beside_a_prompt_that_is_not_theirs(tmp_path: Path) -> None:
    asked = [Prompt(f"p{place}", text="", tokens=(1, 20 + place)) for place in range(6)]
    written = log(tmp_path, *(group(k, float(k % 2), None, prompt=prompt) for k, prompt in enumerate(asked)))
    found = LoggedLabels(logs=written, prompts=4).open(supplies(demands=BARE)).groups(1)
    own, other = found[:4], found[4:]
    assert [[row.label for row in one.rollouts] for one in other] == [[Label.MISMATCHED]] * 4
    assert [one.prompt for one in other] == [own[place - 1].prompt for place in range(4)]
    assert all(one.rollouts[0].label is (Label.CHOSEN if one.rollouts[0].reward else Label.REJECTED) for one in own)


@pytest.mark.parametrize("source", [Successes, LoggedPairs])
def test_what_is_too_old_at_the_last_step_is_counted_among_what_can_be_learned(
    source: type[Unweighted], tmp_path: Path
) -> None:
    older = [group(place, 0.0, 1.0, version="a") for place in range(2)]
    newer = [group(place, 0.0, 0.0, version="b") for place in range(2, 6)]
    made = source.model_validate({"logs": log(tmp_path, *older, *newer), "prompts": 2, "stale": 2})
    assert len(made.open(supplies()).groups(1)) == 2
    made.read(BARE, steps=1)
    with pytest.raises(DataError, match="0 of 2 groups are that young at the last step"):
        made.read(BARE, steps=2)


@pytest.mark.parametrize("kind", [Successes, LoggedPairs, LoggedLabels])
def test_a_correction_of_what_has_no_weight_is_refused(kind: type[Unweighted], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"logs": tmp_path}
    (fault,) = kind.model_validate(settings).conflicts(True, supplies().sampling, False)
    assert f"source.type={kind.model_fields['type'].default}" in fault.found
    assert not list(kind.model_validate(settings).conflicts(False, supplies().sampling, False))


def with_eos(tokens: tuple[int, ...]) -> tuple[int, ...]:
    return tokens if tokens[-1] == 2 else (*tokens, 2)


@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.STOP])
def test_answers_are_learned_from_with_the_end_that_a_reward_model_reads(finish: Finish, tmp_path: Path) -> None:
    cut, whole = Completion((7, 8), (), "xy", finish, (1.0, 0.5)), Completion((7, 2), (), "x", Finish.EOS, (1.0, 0.5))
    written = log(tmp_path, *(group(k, rollouts=(*rows(0.0, done=cut), *rows(1.0, done=whole))) for k in range(2)))
    source = LoggedPairs(logs=written, prompts=2)
    for found in source.open(supplies(demands=BARE, ended=with_eos)).groups(1):
        assert [row.completion for row in found.rollouts] == [whole, replace(cut, tokens=(7, 8, 2), entropies=())]
    for found in source.open(supplies(demands=BARE)).groups(1):
        assert [row.completion for row in found.rollouts] == [whole, cut], "who reads log-probs reads what was drawn"


def test_an_end_for_which_there_is_no_room_is_refused_with_every_prompt_by_name(tmp_path: Path) -> None:
    cut, short = Completion((7, 8), (), "xy", Finish.LENGTH), Completion((7,), (), "x", Finish.LENGTH)
    made = [group(k, rollouts=rows(0.0, 1.0, done=cut if k else short)) for k in range(3)]
    source = LoggedPairs(logs=log(tmp_path, *made), prompts=3)
    source.open(supplies(demands=BARE, context=4))
    with pytest.raises(DataError) as caught:
        source.open(supplies(demands=BARE, context=4, ended=with_eos))
    assert "'p1' has token 8 or 5 tokens with an answer (a reward model's with EOS)" in caught.value.found
    assert caught.value.cure.endswith("one with a longer context; or a log without 'p1', 'p2'")
