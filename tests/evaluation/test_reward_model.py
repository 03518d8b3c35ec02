"""The line of words that a reward model has to beat."""

from __future__ import annotations

from klimb.evaluation.reward_model import words_win
from klimb.types import Prompt, Reply


def test_a_model_of_words_finds_the_word_that_is_always_preferred_and_nothing_where_there_is_none() -> None:
    prompts = [Prompt(f"p{n}", text=f"{n}?") for n in range(40)]
    polite = {p.id: (Reply(f"please {n}", True), Reply(f"never {n}", False)) for n, p in enumerate(prompts)}
    same = {prompt.id: (Reply("a", True), Reply("a", False)) for prompt in prompts}
    assert words_win(prompts[:30], prompts[30:], polite) == {"eval/words_win": 1.0}
    assert words_win(prompts[:30], prompts[30:], same) == {"eval/words_win": 0.5}
    assert words_win([], prompts, polite) == {} and words_win(prompts, [], polite) == {}
