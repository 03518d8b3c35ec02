"""Rounds: sampled once at their start, scored batch by batch, learned from in every pass, and kept in checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import klimb
from klimb.cli.arithmetic import arithmetic
from klimb.errors import SettingsError
from klimb.generation.base import Request, Sampling
from klimb.recipe import Recipe, load_recipe
from klimb.rundir import RunDir
from klimb.sources.base import Supplies, scored
from klimb.sources.iterative_pairs import IterativePairs
from klimb.sources.pairing import TopBottom
from klimb.sources.rounds import Place
from klimb.training.summary import summarise
from klimb.types import Completion, Prompt, Score
from tests.sources.test_online import Parrot

SETTINGS = IterativePairs(prompts=2, completions=4, batches=3, passes=2, reference="round", pairing=TopBottom(k=2))


class World:
    """A source's supplies, and all that it asked of them."""

    def __init__(self) -> None:
        self.sampled: list[int] = []
        self.scored: list[int] = []
        self.renewed = 0
        self.parrot = Parrot()
        self.prompts = [Prompt(f"p{k}", text="", tokens=(1,), metadata={"k": (k,)}) for k in range(12)]
        self.supplies = Supplies(
            self.prompts, self, Sampling(), self.score, {"r": 1.0}, lambda: "v", 7, lambda _: nullcontext(),
            renew=self.renew,
        )  # fmt: skip

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Completion, ...]]:
        self.sampled.append(len(requests))
        return self.parrot.sample(requests, sampling)

    def refresh(self) -> None: ...

    def describe(self) -> str:
        return "a parrot"

    def score(self, prompts: Sequence[Prompt], done: Sequence[Completion]) -> list[dict[str, Score]]:
        self.scored.append(len(done))
        return [{"r": Score.of(float(int(one.text) % 101))} for one in done]

    def renew(self) -> None:
        self.renewed += 1


def test_a_round_is_sampled_at_its_start_and_each_batch_scored_when_it_is_first_learned_from() -> None:
    world = World()
    source: Any = SETTINGS.open(world.supplies)
    steps = [source.groups(step) for step in range(1, 13)]
    assert world.sampled == [6, 6] and world.scored == [8] * 6
    assert world.renewed == 1, "the policy at the first step is the reference already"
    asked = [[group.prompt.id for group in step] for step in steps]
    assert asked[:3] == asked[3:6] and asked[6:9] == asked[9:12]
    assert sorted(name for step in asked[:3] + asked[6:9] for name in step) == sorted(
        prompt.id for prompt in world.prompts
    )
    assert [group.age for step in steps for group in step[:1]] == [None, 1, 2, 3, 4, 5] * 2
    for first, again in zip(steps[:3], steps[3:6], strict=True):
        assert [group.rollouts for group in first] == [group.rollouts for group in again]
        assert [group.pairs for group in first] == [group.pairs for group in again]
        assert all(len(group.pairs or ()) == 2 for group in first)


def test_what_is_told_is_of_what_a_step_samples_and_scores() -> None:
    world = World()
    source: Any = SETTINGS.open(world.supplies)
    told = []
    for step in range(1, 8):
        groups = source.groups(step)
        told.append(summarise(groups, (), scored(source)) | source.metrics())
    assert [line["tokens/sampled"] for line in told] == [24, 0, 0, 0, 0, 0, 24]
    assert ["reward/mean" in line for line in told] == [True] * 3 + [False] * 3 + [True]
    assert [line.get("outcome/asked") for line in told] == [8.0] * 3 + [None] * 3 + [8.0]
    assert ["replay/reward" in line for line in told] == [False] + [True] * 5 + [False]
    assert [line["preference/round"] for line in told] == [1.0] * 6 + [2.0]
    assert all(line["preference/pairs"] == 4.0 for line in told)


@pytest.mark.parametrize("stop", range(12))
def test_a_source_that_goes_on_from_a_checkpoint_gives_the_same_and_samples_nothing_again(stop: int) -> None:
    whole: Any = SETTINGS.open(World().supplies)
    wanted = [whole.groups(step) for step in range(1, 13)]
    first: Any = SETTINGS.open(World().supplies)
    for step in range(1, stop + 2):  # the last of these is not finished, and is done again
        first.groups(step)
    world = World()
    later: Any = SETTINGS.open(world.supplies)
    later.keeper.restore(first.keeper.state())
    assert [later.groups(step) for step in range(stop + 1, 13)] == wanted[stop:]
    assert world.sampled == ([6] if stop < 6 else [])
    assert len(world.scored) == sum(Place.of(step, 3, 2).first + 3 > step for step in range(stop + 1, 13))


def test_without_a_round_one_is_sampled_wherever_the_run_stands() -> None:
    world = World()
    source: Any = SETTINGS.open(world.supplies)
    assert [len(source.groups(step)) for step in (5, 6, 7)] == [2, 2, 2]
    assert world.sampled == [6, 6] and world.scored == [8, 8, 8] and world.renewed == 2


def test_the_arithmetic_says_how_much_a_round_samples_and_how_many_there_are() -> None:
    found = "\n".join(arithmetic(load_recipe("recipes/tiny-iterative-dpo.yaml", "training.steps=21")))
    assert "4 batches x 16 prompts x 16 completions = 1,024 rows drawn at its start" in found
    assert "4 batches x 2 passes = 8 steps; 2 rounds, and 5 steps of one more" in found
    assert "at most 4 pairs a prompt = 64 pairs a step, 128 rows that learn" in found
    assert "21 optimizer steps, 3,072 completions" in found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("source.dynamic=1", "samples before it scores"),
        ("training.correction.type=truncate", "whatever drew them"),
        ("objective={type: simpo}", "an objective without a reference"),
    ],
)
def test_settings_of_rounds_that_do_not_go_together_are_refused(words: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_recipe("recipes/tiny-iterative-dpo.yaml", words)
    assert said in str(caught.value)


def test_a_bandit_over_the_loss_is_taken_with_rounds() -> None:
    assert isinstance(load_recipe("recipes/tiny-laser-rounds.yaml"), Recipe)


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (["source.completions=1"], "completions=2 or more"),
        (["combining={type: selected, judge: truth, gain: {type: held_out}}"], "combining.gain.type=margin"),
    ],
)
def test_what_could_never_teach_is_refused(words: list[str], cure: str, root: Path) -> None:
    arms = "{type: numeric, name: a}, {type: format, name: b, pattern: '[0-9]'}"
    truth = f"rewards=[{arms}, {{type: exact, name: truth, weight: 0}}]"
    with pytest.raises(SettingsError, match=cure):
        klimb.load_recipe(root / "recipes/tiny-iterative-dpo.yaml", truth, *words)


def test_any_generator_will_do_since_pairs_ask_not_who_drew_them(root: Path) -> None:
    served = "generator={type: http, url: 'http://localhost:1'}"
    recipe = klimb.load_recipe(root / "recipes/tiny-iterative-dpo.yaml", served)
    assert recipe.generator.type == "http" and recipe.training.correction.type == "none"


def test_a_fork_within_a_round_samples_anew_for_its_own_prompts(root: Path, tmp_path: Path) -> None:
    words = ["source.batches=4", "source.prompts=2", "training.steps=2", "checkpoints.every=2", "evaluation.problems=2"]
    path = root / "recipes/tiny-iterative-dpo.yaml"
    klimb.train(klimb.load_recipe(path, *words), run=tmp_path / "a")
    other = klimb.load_recipe(path, *words, "data.seed=1", "training.steps=3")
    klimb.train(other, run=tmp_path / "b", fork=f"{tmp_path / 'a'}@2")
    told = RunDir.open(tmp_path / "b")
    assert told.read_metrics()[-1]["tokens/sampled"] > 0
    assert any("buffer" in event.get("what", ()) for event in told.read_events() if event.get("kind") == "begun_anew")
