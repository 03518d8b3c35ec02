"""Replayed experience: which groups of a log are fit, which are drawn, how old they are, and what a buffer keeps."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from klimb import rollouts
from klimb.batch import Batch
from klimb.config import resolve
from klimb.errors import DataError
from klimb.generation.base import Sampling
from klimb.recipe import Recipe
from klimb.sources.base import Demands, Supplies
from klimb.sources.buffer import Buffer, Held, Replays
from klimb.sources.fitness import REASONS
from klimb.sources.hybrid import Hybrid, HybridExperience
from klimb.sources.replayed import Replayed
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Score, Transform
from tests.sources.test_online import Parrot

DONE = Completion((7, 2), (-1.5, -0.25), "x", Finish.EOS, (1.0, 0.5))
COMPARED = Demands("rpg", True, 2, entropies=True)


def rows(*rewards: float | None, done: Completion = DONE) -> tuple[Rollout, ...]:
    return tuple(Rollout(done, k, 100 + k, {}, reward) for k, reward in enumerate(rewards))


def group(index: int = 0, *rewards: float | None, version: str = "v1", **changes: Any) -> Group:
    made = Group(Prompt(f"p{index}", text="", tokens=(1, 5)), rows(*(rewards or (0.0, 1.0))), Transform(), version)
    return replace(made, **changes)


def log(tmp_path: Path, *groups: Group) -> Path:
    rollouts.write(tmp_path / "log.parquet", groups, 0)
    return tmp_path / "log.parquet"


def supplies(**changes: Any) -> Supplies:
    prompts = [Prompt(f"q{index}", text="", tokens=(1, 10 + index)) for index in range(20)]

    def score(asked: Any, done: Any) -> list[dict[str, Score]]:
        return [{"exact": Score.of(float(k % 2))} for k, _ in enumerate(done)]

    stage = lambda _: nullcontext()  # noqa: E731
    made = Supplies(prompts, Parrot(), Sampling(), score, {"exact": 1.0}, lambda: "now", 7, stage, demands=COMPARED)
    return replace(made, **changes)


UNFIT: dict[str, Group] = {
    "replayed": group(age=3),
    "no tokens": group(prompt=Prompt("p", text="who?")),
    "no score": group(0, None, None),
    "no log-probs": group(rollouts=rows(0.0, 1.0, done=replace(DONE, logps=()))),
    "no entropies": group(rollouts=(*rows(0.0), *rows(1.0, done=replace(DONE, entropies=())))),
    "estimated": group(rollouts=rows(0.0, 1.0, done=replace(DONE, estimated="tiny"))),
    "unknown sampling": group(transform=Transform(known=False)),
    "truncated": group(transform=Transform(top_p=0.9)),
    "greedy": group(transform=Transform(temperature=0.0)),
    "alone": group(0, 1.0, None),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_data_that_an_objective_cannot_learn_from_are_refused_with_the_reason_and_a_cure(
    reason: str, tmp_path: Path
) -> None:
    source = Replayed(logs=log(tmp_path, UNFIT[reason], group()), prompts=2)
    with pytest.raises(DataError) as caught:
        source.read(COMPARED)
    assert f"left out 1: 1 {reason}" in caught.value.found
    assert REASONS[reason][0] in caught.value.found
    assert caught.value.cure == REASONS[reason][1]
    assert "for rpg" in caught.value.asked


def test_every_reason_has_a_case() -> None:
    assert set(UNFIT) | {"no success", "no pair"} == set(REASONS)


@pytest.mark.parametrize(
    "selector", [{"type": "every"}, {"type": "random"}, {"type": "top", "entropy": {"of": "current"}}]
)
def test_entropies_that_no_selector_ranks_by_are_not_asked_of_a_log(
    root: Path, tmp_path: Path, selector: dict[str, Any]
) -> None:
    settings = yaml.safe_load((root / "recipes" / "tiny-replay.yaml").read_text("utf-8"))
    place = log(tmp_path, UNFIT["no entropies"])
    settings["source"] = {"type": "replayed", "logs": str(place), "prompts": 1}
    recipe = resolve(Recipe, settings | {"selector": selector})
    assert len(Replayed(logs=place, prompts=1).read(recipe.demands).held) == 1
    ranking = resolve(Recipe, settings | {"selector": {"type": "top"}})
    with pytest.raises(DataError, match=r"1 no entropies.*selector\.entropy\.of=current"):
        Replayed(logs=place, prompts=1).read(ranking.demands)


def test_estimated_log_probs_are_taken_where_that_is_said(tmp_path: Path) -> None:
    source = Replayed(logs=log(tmp_path, UNFIT["estimated"]), prompts=1, estimated=True)
    assert len(source.read(COMPARED).held) == 1


def test_a_log_where_all_answers_are_as_good_has_nothing_to_compare(tmp_path: Path) -> None:
    source = Replayed(logs=log(tmp_path, group(0, 1.0, 1.0), group(1, 0.0, 0.0)), prompts=1)
    with pytest.raises(DataError, match="no group has a signal"):
        source.read(COMPARED)
    assert len(source.read(Demands("reinforce", True, 1)).held) == 2


def test_too_few_groups_and_no_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"source\.prompts=1"):
        Replayed(logs=log(tmp_path, group()), prompts=3).read(COMPARED)
    missing = Replayed(logs=tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no such file"):
        missing.read(COMPARED)
    with pytest.raises(DataError, match="no such file"):
        missing.fingerprint()


def test_a_policy_with_another_tokenizer_or_a_shorter_context_is_refused(tmp_path: Path) -> None:
    source = Replayed(logs=log(tmp_path, group()), prompts=1)
    source.open(supplies(vocabulary=8, context=4))
    for changes in ({"vocabulary": 7}, {"context": 3}):
        with pytest.raises(DataError, match="tokenizer wrote the log"):
            source.open(supplies(**changes))
    with pytest.raises(DataError, match="tokenizer wrote the log"):
        Hybrid(logs=source.logs, prompts=1).open(supplies(vocabulary=7))


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    source = Replayed(logs=log(tmp_path, group()))
    before = source.fingerprint()
    assert before == source.fingerprint() == Hybrid(logs=source.logs).fingerprint()
    log(tmp_path, group(0, 0.0, 0.5))
    assert source.fingerprint() != before
    assert Hybrid().fingerprint() == ""


def test_a_step_draws_different_groups_and_depends_on_its_number_and_the_seed_only(tmp_path: Path) -> None:
    source = Replayed(logs=log(tmp_path, *(group(index) for index in range(30))), prompts=6)
    opened = source.open(supplies())
    first, second = opened.groups(1), opened.groups(2)
    assert len({one.prompt.id for one in first}) == 6
    assert first == source.open(supplies()).groups(1)
    assert [one.prompt.id for one in first] != [one.prompt.id for one in second]
    assert [one.prompt.id for one in first] != [one.prompt.id for one in source.open(supplies(seed=8)).groups(1)]
    assert opened.metrics() == {"replay/buffer": 30.0}
    assert source.sampled(1) == 0
    batch = Batch.of(first)
    assert batch.age is not None and batch.age.tolist() == [1] * 12
    assert batch.sampler is not None and batch.sampler[:2].tolist() == [-1.5, -0.25]


def test_the_newest_version_of_a_log_is_the_one_before_the_first_step_and_bounds_leave_the_old_ones_alone(
    tmp_path: Path,
) -> None:
    written = log(tmp_path, group(0, version="a"), group(1, version="b"), group(2, version="b"), group(3, version="c"))
    ages = {g.prompt.id: g.age for g in Replayed(logs=written, prompts=4).open(supplies()).groups(5)}
    assert ages == {"p0": 7, "p1": 6, "p2": 6, "p3": 5}
    bound = Replayed(logs=written, prompts=3, stale=6)
    assert {g.prompt.id for g in bound.open(supplies()).groups(5)} == {"p1", "p2", "p3"}
    bound.read(COMPARED, steps=5)
    with pytest.raises(DataError, match="1 of 4 groups are that young at the last step"):
        bound.read(COMPARED, steps=6)


def counts(priority: str, held: list[Held], draws: int = 4000, **settings: Any) -> list[float]:
    buffer = Buffer(Replays.model_validate({"priority": priority, **settings}), 3, held)
    seen = Counter(one.prompt.id for step in range(1, draws + 1) for one in buffer.draw(step, 1))
    return [seen[one.group.prompt.id] / draws for one in held]


def test_priorities_draw_in_the_proportions_that_they_say() -> None:
    held = [
        Held.of(group(0, 0.0, 1.0), 0, 1.0),
        Held.of(group(1, 1.0, 1.0), 0, 1.0),
        Held.of(group(2, 0.0, 0.0), 0, 1.0),
    ]
    assert [(one.advantage, one.success) for one in held] == [(0.5, 0.5), (0.0, 1.0), (0.0, 0.0)]
    assert counts("uniform", held) == pytest.approx([1 / 3] * 3, abs=0.03)
    assert counts("advantage", held, floor=0.5) == pytest.approx([0.5, 0.25, 0.25], abs=0.03)
    assert counts("success", held, floor=0.5) == pytest.approx([1 / 3, 0.5, 1 / 6], abs=0.03)
    aged = [replace(one, born=-place * 10) for place, one in enumerate(held)]
    assert counts("recency", aged, half_life=10) == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=0.03)
    assert Held.of(group(0, None), 0, 1.0).advantage == 0.0


def test_a_buffer_keeps_the_newest_and_goes_on_from_its_state_to_the_same_draws() -> None:
    settings = Replays(stale=4)
    buffer = Buffer(settings, 3, [Held.of(group(99), 0, 1.0)], capacity=5)
    for step in range(1, 5):
        assert len(buffer.young(step)) == 1 + min(5, 2 * (step - 1))
        buffer.add(step, [group(10 * step), group(10 * step + 1)])
    other = Buffer(settings, 3, [Held.of(group(99), 0, 1.0)], capacity=5)
    other.restore(buffer.state())
    assert buffer.draw(5, 3) == other.draw(5, 3)
    assert [one.age for one in other.draw(5, 9)] and {one.age for one in other.draw(5, 9)} == {1, 2, 3}, "0 is too old"
    assert {name: value.tolist() for name, value in other.state().items()} == {
        name: value.tolist() for name, value in buffer.state().items()
    }
    again = buffer.draw(4, 9)
    buffer.add(4, [group(40), group(41)])
    assert buffer.draw(4, 9) == again, "a step that is done again finds what it found"
    empty = Buffer(settings, 3)
    empty.restore(Buffer(settings, 3).state())
    assert empty.draw(1, 3) == [] == buffer.draw(5, 0)


def test_a_hybrid_batch_is_fresh_groups_first_and_then_the_share_that_is_replayed() -> None:
    source = Hybrid(prompts=4, completions=2, share=0.5, final=0.0, over=4)
    assert [source.replayed(step) for step in (1, 3, 5, 9)] == [2, 1, 0, 0]
    assert source.sampled(1) == 2
    opened = source.open(supplies())
    assert isinstance(opened, HybridExperience)
    assert opened.describe() == "the buffer begins empty"
    first = opened.groups(1)
    assert [one.age for one in first] == [None] * 4 and opened.metrics() == {"replay/share": 0.0, "replay/buffer": 0.0}
    second = opened.groups(2)
    assert [one.age for one in second] == [None, None, 1, 1]
    assert opened.metrics() == {"replay/share": 0.5, "replay/buffer": 4.0}
    assert {one.prompt.id for one in second[2:]} <= {one.prompt.id for one in first}
    batch = Batch.of(second)
    assert batch.age is not None and batch.age.tolist() == [-1] * 4 + [1] * 4
    assert batch.take(batch.age.new_tensor([0, 6])).age.tolist() == [-1, 1]  # type: ignore[union-attr]


def test_a_hybrid_source_without_a_share_draws_what_the_online_one_does(tmp_path: Path) -> None:
    from klimb.sources.online import Online

    none = Hybrid(prompts=4, completions=2, share=0.0, logs=log(tmp_path, *map(group, range(9)))).open(supplies())
    online = Online(prompts=4, completions=2).open(supplies())
    assert [none.groups(step) for step in (1, 2)] == [online.groups(step) for step in (1, 2)]
    assert "begins with 9 of 9 groups fit, with 18 answers" in none.describe()  # type: ignore[attr-defined]


def test_a_hybrid_source_may_replay_all_from_a_log(tmp_path: Path) -> None:
    opened = Hybrid(prompts=4, share=1.0, logs=log(tmp_path, *map(group, range(9)))).open(supplies())
    assert [one.age for one in opened.groups(1)] == [1] * 4
