"""Sources of given answers: whose turn it is, what is cut, and what the policy draws beside them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from klimb import rollouts, train
from klimb.batch import Batch
from klimb.config import resolve
from klimb.errors import DataError, SettingsError
from klimb.generation.base import Sampling
from klimb.recipe import Recipe, load_recipe
from klimb.rundir import RunDir
from klimb.sources.answers import Answers
from klimb.sources.base import Source, Supplies
from klimb.sources.labelled import Labelled
from klimb.sources.mixture import Mixture
from klimb.sources.pairs import Pairs
from klimb.training.weighing import Passes, cuts
from klimb.types import Finish, Group, Label, Prompt, Reply
from tests.sources.test_online import Parrot

GOOD, BAD = Reply("yes", True, 2.0), Reply("never", False)


def encode(_: Prompt, text: str) -> tuple[int, ...]:
    return (*map(ord, text), 2)


def supplies(replies: tuple[Reply, ...] = (GOOD, BAD), count: int = 5) -> Supplies:
    prompts = [Prompt(f"p{index}", text="", tokens=(1, 10, 11, 12 + index)) for index in range(count)]
    given = {prompt.id: replies for prompt in prompts}
    stage = lambda _: nullcontext()  # noqa: E731
    return Supplies(prompts, Parrot(), Sampling(), lambda *_: [], {}, lambda: "v", 7, stage, given=given, encode=encode)


def groups(source: Source, step: int = 1, replies: tuple[Reply, ...] = (GOOD, BAD)) -> list[Group]:
    opened = source.open(supplies(replies))
    assert opened.metrics() == {}
    return opened.groups(step)


@pytest.mark.parametrize(
    ("words", "cures"),
    [
        (["correction.type=truncate"], ["training.correction.type=none and generator.type=local"]),
        (["generator.type=http"], ["generator.type=local"]),
        (["correction.type=mask", "generator.type=http"], ["training.correction.type=none and generator.type=local"]),
    ],
)
def test_samples_beside_given_answers_are_the_policy_s_own_and_nothing_weighs_them(
    words: list[str], cures: list[str], root: Path
) -> None:
    full = [word.replace("correction", "training.correction") for word in words]
    with pytest.raises(SettingsError) as caught:
        load_recipe(root / "recipes/tiny-hypo.yaml", *full)
    assert [fault.cure for fault in caught.value.faults] == cures


def test_given_answers_alone_are_not_weighed_either(root: Path) -> None:
    with pytest.raises(SettingsError, match=r"source\.type=pairs, whose given answers have no log-probs"):
        load_recipe(root / "recipes/tiny-dpo.yaml", "training.correction.type=truncate")


def test_a_pair_is_two_rows_of_one_prompt_with_eos_and_known_scores() -> None:
    found = groups(Pairs(prompts=3))
    assert [[row.label for row in group.rollouts] for group in found] == [[Label.CHOSEN, Label.REJECTED]] * 3
    batch = Batch.of(found)
    assert batch.label is not None and batch.label.tolist() == [1, -1] * 3 and bool(batch.learn.all())
    assert batch.tokens[:4].tolist() == [*map(ord, "yes"), 2] and batch.scored.tolist() == [True, False] * 3
    assert len({row.seed for group in found for row in group.rollouts}) == 6


def test_each_pass_visits_every_row_once_and_a_key_stays_the_same() -> None:
    seen = [group.prompt.id for step in range(1, 6) for group in groups(Pairs(prompts=2), step)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [f"p{index}" for index in range(5)]
    keys = {
        (g.prompt.id, row.k): row.seed
        for step in range(1, 4)
        for g in groups(Pairs(prompts=2), step)
        for row in g.rollouts
    }
    again = {
        (g.prompt.id, row.k): row.seed
        for step in range(4, 6)
        for g in groups(Pairs(prompts=2), step)
        for row in g.rollouts
    }
    assert all(keys[name] == again[name] for name in keys.keys() & again.keys())


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_its_end_and_eos() -> None:
    (group, *_) = groups(Pairs(prompts=1, prompt_tokens=2, answer_tokens=4))
    assert group.prompt.tokens[0] == 1 and len(group.prompt.tokens) == 2
    whole, cut = (row.completion for row in group.rollouts)
    assert whole.tokens[-1] == 2 and whole.finish is Finish.EOS
    assert cut.tokens == tuple(map(ord, "neve")) and cut.finish is Finish.LENGTH
    assert len(groups(Pairs(prompts=1, prompt_tokens=1))[0].prompt.tokens) == 1


@pytest.mark.parametrize("objective", ["dpo", "bradley_terry"])
def test_a_prompt_longer_than_the_context_is_cut_before_it_is_measured_and_the_cure_names_the_setting(
    objective: str, tmp_path: Path
) -> None:
    rows = [{"prompt": f"{n}" * 100 + "?", "chosen": "yes", "rejected": "no"} for n in range(8)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    settings = {
        "model": {"name": "tiny", "tiny": {"hidden": 32, "context": 64}}, "sampling": {"max_tokens": 4},
        "data": {"type": "preferences", "path": str(tmp_path / "pairs.jsonl"), "share": 0.5},
        "objective": {"type": objective}, "source": {"type": "pairs", "prompts": 2}, "training": {"steps": 1},
    }  # fmt: skip
    with pytest.raises(DataError, match=r"the model's context is 64.*try: source\.prompt_tokens=60, which cuts"):
        train(resolve(Recipe, settings), run=tmp_path / "long")
    with pytest.raises(DataError) as none:
        train(resolve(Recipe, settings | {"sampling": {"max_tokens": 64}}), run=tmp_path / "none")
    drawn = objective == "dpo"
    assert ("prompt_tokens" in none.value.line()) is not drawn, "no cut would help where held-out prompts are answered"
    settings["source"] = {"type": "pairs", "prompts": 2, "prompt_tokens": 60}
    run = train(resolve(Recipe, settings), run=tmp_path / "run")
    (group, *_) = rollouts.read(RunDir.open(run.path).rollout(1))
    assert len(group.prompt.tokens) == 60 and run.step == 1


def test_a_mixture_adds_samples_that_nothing_scored() -> None:
    found = groups(Mixture(prompts=2, fresh=3))
    assert [len(group.rollouts) for group in found] == [2, 2, 3, 3]
    batch = Batch.of(found)
    assert batch.label is not None and batch.label.tolist() == [1, -1, 1, -1, 2, 2, 2, 2, 2, 2]
    assert bool(batch.learn.all()) and Mixture(fresh=3).completions == 3
    assert [group.prompt.id for group in found[:2]] == [group.prompt.id for group in found[2:]]
    assert len({row.seed for group in found for row in group.rollouts}) == 10


def test_a_batch_cut_into_steps_keeps_the_samples_beside_their_pair() -> None:
    batch = Batch.of(groups(Mixture(prompts=4, fresh=3)))
    parts = [rows for seed in range(5) for rows in cuts(batch, Passes(minibatches=4), seed)]
    assert len(parts) == 20 and batch.label is not None
    for rows in parts:
        assert batch.label[rows].tolist() == [1, -1, 2, 2, 2]
        assert len({tuple(batch.prompts[int(group)].tolist()) for group in batch.group[rows]}) == 1
    assert sorted(torch.cat(parts[:4]).tolist()) == list(range(20))


def test_labelled_rows_stand_once_more_after_another_prompt() -> None:
    found = groups(Labelled(prompts=2))
    labels = [[row.label for row in group.rollouts] for group in found]
    assert labels == [[Label.CHOSEN, Label.REJECTED]] * 2 + [[Label.MISMATCHED] * 2] * 2
    assert [group.prompt.id for group in found[2:]] == [found[1].prompt.id, found[0].prompt.id]
    assert [row.completion.text for row in found[2].rollouts] == ["yes", "never"]


def test_an_answer_is_never_mismatched_with_its_own_prompt_in_another_row() -> None:
    given = supplies(count=4)
    asked = (Prompt("a", tokens=(1, 5)), Prompt("b", tokens=(1, 5)), Prompt("c", tokens=(1, 6)))
    answers = {prompt.id: (Reply(prompt.id, True),) for prompt in asked}
    found = Labelled(prompts=3).open(replace(given, prompts=asked, given=answers)).groups(1)
    pairs = {(group.prompt.tokens, row.completion.text) for group in found[3:] for row in group.rollouts}
    assert pairs == {((1, 6), "a"), ((1, 6), "b"), ((1, 5), "c")}
    alike = Labelled(prompts=2).open(replace(given, prompts=asked[:2], given=answers)).groups(1)
    assert [row.label for group in alike for row in group.rollouts] == [Label.CHOSEN] * 2


def test_answers_are_mismatched_with_a_prompt_after_which_they_fit_into_the_model() -> None:
    asked = (Prompt("a", tokens=(1, 5)), Prompt("b", tokens=(1, 6, 7, 8)), Prompt("c", tokens=(1, 9)))
    given = replace(supplies(), prompts=asked, given={prompt.id: (Reply(prompt.id * 4, True),) for prompt in asked})
    found = {context: Labelled(prompts=3).open(replace(given, context=context)).groups(1)[3:] for context in (9, 8, 6)}
    assert [len(groups) for groups in found.values()] == [3, 3, 0]
    sizes = [{len(group.prompt.tokens) for group in groups} for groups in found.values()]
    assert sizes == [{2, 4}, {2}, set()]


def test_only_good_answers_are_imitated() -> None:
    found = groups(Answers(prompts=2))
    assert [row.completion.text for group in found for row in group.rollouts] == ["yes", "yes"]
    assert Answers().completions == 1


def test_data_without_pairs_are_refused() -> None:
    with pytest.raises(DataError, match=r"source\.type=labelled"):
        groups(Pairs(), replies=(GOOD,))
