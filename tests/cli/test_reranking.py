"""Best-of-n on a tiny model: one answer is what `measure` finds, a bandit chooses as its checkpoint says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

import klimb
from klimb.bandits.delayed import nothing_owed
from klimb.bandits.gains import no_history
from klimb.bandits.keeping import Kept
from klimb.bandits.ucb1 import UCB1
from klimb.cli import main
from klimb.config import resolve
from klimb.errors import CheckpointError, RewardError, SettingsError
from klimb.generation.base import Sampling
from klimb.recipe import Recipe
from klimb.reranking import best_of, chosen_nll, picking
from klimb.types import Completion, Finish, Prompt

LASER: dict[str, Any] = {
    "model": {"name": "tiny", "tiny": {"hidden": 32}},
    "data": {"type": "echo-digit", "train": 64},
    "rewards": [
        {"type": "format", "name": "digit", "pattern": ".*[0-9].*"},
        {"type": "format", "name": "letter", "pattern": ".*[a-z].*"},
        {"type": "exact", "name": "judge", "weight": 0},
    ],
    "combining": {"type": "selected", "judge": "judge", "share": 1.0, "bandit": {"type": "fixed", "arm": 1}},
    "objective": {"type": "grpo"},
    "source": {"prompts": 4, "completions": 4},
    "sampling": {"max_tokens": 2},
    "training": {"steps": 1, "micro_tokens": 256},
    "evaluation": {"problems": 10},
}


def recipe(**settings: Any) -> Recipe:
    return resolve(Recipe, LASER | settings)


def test_the_best_of_one_is_what_measure_finds_and_the_choice_is_the_bandits() -> None:
    alone, found = klimb.measure(recipe(), step=3), best_of(recipe(), 1, step=3)
    assert alone.accuracy is not None and found.rows[0].correct == alone.accuracy.value
    assert found.asked == {"digit": 0, "letter": 10} and not found.itself


def test_choosing_by_the_judge_itself_finds_what_is_possible_and_says_so() -> None:
    rewards = [{"type": "exact", "name": "judge"}]
    found = best_of(recipe(rewards=rewards, combining={"type": "weighted"}), 4)
    assert found.itself and [row.n for row in found.rows] == [1, 2, 4]
    assert [row.correct for row in found.rows] == [row.possible for row in found.rows]
    assert found.rows[2].reward == found.rows[2].correct


def test_what_cannot_be_chosen_among_or_by_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="temperature 0"):
        best_of(recipe(evaluation={"greedy": True}), 2)
    with pytest.raises(CheckpointError, match="no such file"):
        best_of(recipe(), 2, kept=tmp_path / "combining.safetensors")


def test_the_bandit_chooses_by_what_it_learned_before(tmp_path: Path) -> None:
    ucb1, none, saved = UCB1(), np.zeros(0), tmp_path / "combining.safetensors"
    state = ucb1.begin(2, 0)
    for _ in range(100):
        state = ucb1.update(ucb1.update(state, 0, 1.0, none), 1, 0.0, none)
    save_file(Kept(bandit=state, history=no_history(), owed=nothing_owed(0)).state(), saved)
    knows = recipe(combining=LASER["combining"] | {"bandit": {"type": "ucb1"}, "context": "none"})
    assert best_of(knows, 2, kept=saved).asked == {"digit": 10, "letter": 0}
    assert best_of(knows, 2).asked != {"digit": 10, "letter": 0}


def test_a_run_is_chosen_from_by_the_bandit_of_its_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learning = LASER["combining"] | {"bandit": {"type": "ucb1"}, "context": "none"}
    result = klimb.train(recipe(combining=learning, training={"steps": 2, "micro_tokens": 256}), run=tmp_path / "run")
    assert (result.model.parent / "combining.safetensors").is_file()
    capsys.readouterr()
    out = tmp_path / "curve.json"
    printed = said_by(capsys, "rewards", "best-of", str(tmp_path / "run"), "-n", "3", "--learn", "--json", str(out))
    assert "asked about prompts: digit" in printed and printed.startswith("   n")
    written = json.loads(out.read_text("utf-8"))
    assert [row["n"] for row in written["rows"]] == [1, 2, 3] and written["step"] == 2
    assert sum(written["asked"].values()) == 10, "one source a prompt"
    said = said_by(capsys, "sample", str(tmp_path / "run"), "k7=", "--best-of", "4", "--max-tokens", "2")
    assert said == said_by(capsys, "sample", str(tmp_path / "run"), "k7=", "--best-of", "4", "--max-tokens", "2")


def test_the_loss_that_it_learns_by_is_that_of_the_chosen_answers() -> None:
    rows = [[said(-1.0, -3.0), said(-0.5)], [said(-9.0), said(-4.0)], [said(-7.0)]]
    assert chosen_nll(rows, [[1.0, 0.0], [None, 0.0], [None]]) == (2.0 + 4.0) / 2
    assert chosen_nll(rows[2:], [[None]]) is None
    learning = {"type": "selected_paper", "bandit": {"type": "ucb1"}, "context": "none"}
    pairs = {"objective": {"type": "dpo"}, "source": LASER["source"] | {"type": "online_pairs"}}
    found = best_of(recipe(combining=learning, **pairs), 2, learn=True)
    assert sorted(found.asked.values()) in ([0, 10], [2, 8], [4, 6]), "one source for each batch of four, four and two"


def said(*logps: float) -> Completion:
    return Completion((1,) * len(logps), logps, "x", Finish.EOS)


def test_weights_that_change_are_those_of_the_runs_step() -> None:
    rewards = [{"type": "format", "name": "digit", "pattern": ".*[0-9].*"}, {"type": "exact", "name": "judge"}]
    points = {"digit": {"3": 0.0, "5": 10.0}, "judge": {"1": 0.0}}
    turning = recipe(rewards=rewards, combining={"type": "scheduled", "points": points})
    worth = [best_of(turning, 8, step=step).rows[-1].reward for step in (3, 4)]
    assert worth[0] == 0.0 < worth[1] and worth[1] % 0.5 == 0.0, "five for a digit at step 4, over ten prompts"


def test_a_question_is_answered_with_the_best_of_n() -> None:
    digit = [{"type": "format", "name": "digit", "pattern": ".*[0-9].*"}]
    judged, found = recipe(rewards=digit, combining={"type": "weighted"}), {}
    for n in (1, 128):
        with picking(judged, n, Sampling(max_tokens=2), 0, step=1, initial=judged.model) as pick:
            answers = [pick(Prompt("sample", text="k7="), turn) for turn in range(8)]
        found[n] = sum(any(letter.isdigit() for letter in answer) for answer in answers)
    assert found[128] == 8 > found[1], found


def test_a_question_whose_answers_get_no_reward_says_why() -> None:
    exact = recipe(rewards=[{"type": "exact"}], combining={"type": "weighted"})
    with (
        picking(exact, 2, Sampling(max_tokens=2), 0, step=1, initial=exact.model) as pick,
        pytest.raises(RewardError, match=r"among 2 answers.*exact: unscorable"),
    ):
        pick(Prompt("sample", text="k7="), 0)


def said_by(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command printed; it must succeed."""
    ended: object = 0
    try:
        ended = main(words)
    except SystemExit as end:
        ended = end.code
    printed = capsys.readouterr()
    assert not ended, printed.err
    return printed.out
