"""How far a reward model's probabilities can be believed, against lines of NumPy and cases known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from klimb.evaluation.reward_model import calibration, words_win
from klimb.types import Prompt, Reply


def by_numpy(gaps: np.ndarray) -> tuple[float, float]:
    sure = 1 / (1 + np.exp(-np.abs(gaps)))
    right = np.where(gaps == 0, 0.5, gaps > 0)
    bins = np.minimum(((sure - 0.5) * 20).astype(int), 9)
    apart = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(np.log1p(np.exp(-gaps)).mean()), float(np.sum(apart))


def test_the_formulas_are_those_of_numpy() -> None:
    gaps = np.random.default_rng(0).normal(0.4, 2.0, 200)
    found = calibration(gaps.tolist())
    assert (found["eval/reward_loss"], found["eval/reward_calibration"]) == pytest.approx(by_numpy(gaps), rel=1e-12)


def test_who_knows_nothing_is_calibrated_and_who_is_sure_of_what_is_wrong_is_not() -> None:
    nothing = calibration([0.0] * 6)
    assert nothing == {"eval/reward_loss": pytest.approx(math.log(2)), "eval/reward_calibration": 0.0}
    wrong = calibration([-800.0, -800.0, 800.0, 800.0])
    assert wrong["eval/reward_calibration"] == pytest.approx(0.5) and wrong["eval/reward_loss"] == pytest.approx(400.0)


def test_pairs_drawn_by_the_stated_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(1)
    size = np.abs(rng.normal(0.0, 2.0, 20_000))
    drawn = np.where(rng.random(size.size) < 1 / (1 + np.exp(-size)), size, -size)
    assert calibration(drawn.tolist())["eval/reward_calibration"] < 0.02
    assert calibration((3 * drawn).tolist())["eval/reward_calibration"] > 0.1


def test_a_model_of_words_finds_the_word_that_is_always_preferred_and_nothing_where_there_is_none() -> None:
    prompts = [Prompt(f"p{n}", text=f"{n}?") for n in range(40)]
    polite = {p.id: (Reply(f"please {n}", True), Reply(f"never {n}", False)) for n, p in enumerate(prompts)}
    same = {prompt.id: (Reply("a", True), Reply("a", False)) for prompt in prompts}
    assert words_win(prompts[:30], prompts[30:], polite) == {"eval/words_win": 1.0}
    assert words_win(prompts[:30], prompts[30:], same) == {"eval/words_win": 0.5}
    assert words_win([], prompts, polite) == {} and words_win(prompts, [], polite) == {}
