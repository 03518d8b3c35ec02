"""Held-out accuracy: what counts, what does not, and that the draws depend on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from klimb import rollouts
from klimb.errors import RewardError
from klimb.evaluation.accuracy import Exam, correct_source, evaluate, gain, gain_since
from klimb.evaluation.base import Evaluate
from klimb.generation.base import Request, Sampling
from klimb.seeds import seed_of
from klimb.types import Completion, Finish, Group, Outcome, Prompt, Score

SOURCES = {"short": "length", "answer": "exact", "form": "format"}


class Parrot:
    """Answers every prompt with its own last token, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, Sampling]] = []

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Completion, ...]]:
        self.asked += [(request, sampling) for request in requests]
        return [
            (Completion((request.tokens[-1],), (-0.5,), str(request.tokens[-1]), Finish.EOS),) for request in requests
        ]

    def refresh(self) -> None:
        raise AssertionError("an evaluation does not move the weights")


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{n}", text=f"{n}?", answer=str(n % 4), tokens=(9, n)) for n in range(count)]


def score_all(asked: Sequence[Prompt], done: Sequence[Completion]) -> list[dict[str, Score]]:
    """Right where the text is the answer; prompt 5 cannot be scored; odd ones are not in the form."""
    out = []
    for prompt, completion in zip(asked, done, strict=True):
        broken = prompt.id == "p5"
        answer = Score(Outcome.TIMED_OUT) if broken else Score.of(float(completion.text == prompt.answer))
        out.append({"short": Score.of(1.0), "answer": answer, "form": Score.of(float(int(completion.text) % 2 == 0))})
    return out


def exam(asked: Sequence[Prompt], **settings: object) -> Exam:
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=5, max_tokens=12, stop=("\n",))
    return Exam(asked, SOURCES, Evaluate.model_validate(settings), sampling, seed=3)


def run(count: int = 8, **settings: object) -> tuple[dict[str, float], list[Group], Parrot]:
    sampler = Parrot()
    evaluation, groups = evaluate(exam(prompts(count), **settings), sampler, score_all, step=20, version="abc")
    return evaluation.metrics(), groups, sampler


def test_accuracy_counts_what_is_right_of_what_could_be_scored() -> None:
    metrics, _, _ = run()
    assert metrics["eval/accuracy"] == 4 / 7
    assert (metrics["eval/n"], metrics["eval/failed"]) == (7, 1)
    assert metrics["eval/low"] < 4 / 7 < metrics["eval/high"]


def test_format_is_measured_apart_from_correctness() -> None:
    metrics, _, _ = run()
    assert metrics["eval/format"] == 0.5
    assert metrics["eval/length"] == 1.0


def test_a_failure_keeps_its_name_in_the_groups() -> None:
    _, groups, _ = run()
    assert groups[5].rollouts[0].reward is None
    assert groups[5].rollouts[0].scores["answer"].outcome is Outcome.TIMED_OUT
    assert (groups[1].rollouts[0].reward, groups[4].rollouts[0].reward) == (1.0, 0.0)
    assert groups[0].version == "abc"


def test_draws_depend_on_seed_step_and_prompt_only() -> None:
    _, few, sampler = run(2)
    _, many, _ = run(8)
    assert [group.rollouts[0].seed for group in few] == [group.rollouts[0].seed for group in many[:2]]
    assert few[0].rollouts[0].seed == seed_of("eval", 3, 20, "p0")
    assert sampler.asked[0][0].seeds == (few[0].rollouts[0].seed,)


def test_held_out_completions_are_drawn_from_the_whole_distribution() -> None:
    _, groups, sampler = run()
    assert sampler.asked[0][1] == Sampling(temperature=1.0, max_tokens=12, stop=("\n",))
    assert groups[0].transform.truncates is False
    assert run(greedy=True)[2].asked[0][1].temperature == 0.0


def test_a_threshold_says_how_much_is_enough() -> None:
    assert run(threshold=0.0)[0]["eval/accuracy"] == 1.0


def test_nothing_that_can_be_scored_gives_no_accuracy() -> None:
    evaluation, _ = evaluate(exam(prompts(6)[5:]), Parrot(), score_all, step=0)
    assert evaluation.accuracy is None
    assert "eval/accuracy" not in evaluation.metrics()
    assert evaluation.failed == 1


def test_the_first_verifier_says_what_is_correct_unless_another_is_named() -> None:
    assert correct_source("", SOURCES) == "answer"
    assert correct_source("short", SOURCES) == "short"


@pytest.mark.parametrize(("asked", "sources"), [("anser", SOURCES), ("", {"form": "format"})])
def test_a_source_that_is_not_there_is_one_clear_error(asked: str, sources: dict[str, str]) -> None:
    with pytest.raises(RewardError, match=r"evaluation\.correct= one of"):
        correct_source(asked, sources)


def test_evaluations_are_due_at_the_start_the_end_and_between() -> None:
    settings = Evaluate(every=4)
    assert [step for step in range(11) if settings.due(step, 10)] == [0, 4, 8, 10]
    assert [step for step in range(11) if Evaluate(every=4, start=False, end=False).due(step, 10)] == [4, 8]


def test_the_gain_is_over_prompts_scored_in_both() -> None:
    _, before, _ = run(threshold=1.0)
    _, after, _ = run(threshold=1.0)
    assert gain(before, after) == {"eval/gain": 0.0, "eval/gain_low": 0.0, "eval/gain_high": 0.0}
    found = gain(before[4:], after[:7], threshold=1.0)
    assert found["eval/gain"] == 0.0
    assert gain(before[:1], after[1:]) == {}


def test_the_gain_over_a_saved_evaluation_is_the_same(tmp_path: Path) -> None:
    _, after, _ = run()
    before = [replace(group, rollouts=(replace(group.rollouts[0], reward=0.0),)) for group in after]
    rollouts.write(tmp_path / "a", before, 0)
    found = gain_since(tmp_path / "a", after)
    assert found == gain(before, after)
    assert found["eval/gain"] == 4 / 7
    assert 0 < found["eval/gain_low"] < 4 / 7 < found["eval/gain_high"] <= 1
    assert gain_since(tmp_path / "none", after) == {}


def test_each_value_of_a_column_is_a_side_of_its_own() -> None:
    asked = [
        replace(prompt, metadata={"kind": "not sure" if n % 2 else "sure"} if n < 7 else {})
        for n, prompt in enumerate(prompts(8))
    ]
    evaluation, _ = evaluate(exam(asked, by="kind"), Parrot(), score_all, step=1)
    # right are p0 to p3, whose answer is their own number; p5 cannot be scored, p7 has no column
    found_sides = {side: (share.value, share.n) for side, share in evaluation.sides.items()}
    assert found_sides == {"not-sure": (1.0, 2), "sure": (0.5, 4)}
    found = evaluation.metrics()
    assert found["eval/accuracy_sure_low"] < found["eval/accuracy_sure"] < found["eval/accuracy_sure_high"]
    assert evaluate(exam(asked), Parrot(), score_all, step=1)[0].sides == {}
