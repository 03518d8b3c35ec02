"""How far the policy went: exact, of its own answers, whatever way held-out answers are drawn otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from klimb.batch import Batch
from klimb.evaluation.answers import Unscored, drawn, noted
from klimb.evaluation.base import Evaluate
from klimb.evaluation.divergence import Divergence
from klimb.evaluation.preferences import PreferenceExam
from klimb.generation.base import Request, Sampling
from klimb.types import Completion, Finish, Prompt, Transform

HERE, THERE = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
KL = float((HERE.softmax(0) * (HERE.log_softmax(0) - THERE.log_softmax(0))).sum())


class Table:
    """A policy that has the same logits at every token."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def distributions(self, batch: Batch, most: int) -> Iterator[Tensor]:
        yield from (self.logits / batch.temperature).expand(len(batch.tokens), 3).split(most)


class Lengths:
    """Answers the n-th prompt with n + 1 tokens, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[Sampling] = []

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Completion, ...]]:
        self.asked.append(sampling)
        return [(Completion((2,) * (n + 1), (), "", Finish.EOS),) for n in range(len(requests))]


def asked(**settings: Any) -> tuple[dict[str, float], list[Sampling], Transform]:
    sampler = Lengths()
    training = Sampling(max_tokens=9, stop=("\n",))
    far = Divergence(Table(HERE), Table(THERE), sampler, training, 3, 4)  # type: ignore[arg-type]
    prompts = [Prompt(f"p{n}", tokens=(1,)) for n in range(3)]
    ask = Unscored(prompts, Evaluate(**settings), training, sampler, 3)  # type: ignore[arg-type]
    metrics, groups = PreferenceExam(ask, far, prompts)(5)
    return metrics, sampler.asked, groups[0].transform


def test_the_divergence_is_exact_at_each_token_and_summed_over_the_answer() -> None:
    metrics, drawn, _ = asked()
    assert metrics["eval/kl"] == pytest.approx(2 * KL) and metrics["eval/length"] == 2.0
    assert metrics["eval/kl_low"] == pytest.approx(2 * KL - 1.96 * KL / 3**0.5)
    assert (metrics["eval/distinct_1"], metrics["eval/distinct_2"]) == (1 / 6, 1 / 3)
    assert drawn == [Sampling(max_tokens=9, stop=("\n",))]


@pytest.mark.parametrize("settings", [{"greedy": True}, {"temperature": 0.7}])
def test_where_held_out_answers_are_of_another_distribution_the_divergence_is_of_answers_of_its_own(
    settings: dict[str, Any],
) -> None:
    metrics, drawn, shown = asked(**settings)
    temperature = settings.get("temperature", 0.0)
    assert metrics["eval/kl"] == pytest.approx(2 * KL)
    assert [one.temperature for one in drawn] == [temperature, 1.0] and drawn[1].max_tokens == 9
    assert shown == Transform(temperature)


def test_what_was_measured_of_each_prompt_is_noted_at_its_answer() -> None:
    sampler = Lengths()
    far = Divergence(Table(HERE), Table(THERE), sampler, Sampling(), 0, 64)  # type: ignore[arg-type]
    groups = drawn([Prompt(f"p{n}", tokens=(1,)) for n in range(2)], sampler, Sampling(), 0, 1)  # type: ignore[arg-type]
    found, told = far(groups, 1)
    assert [group.rollouts[0].scores["eval/kl"].value for group in told] == pytest.approx([KL, 2 * KL])
    assert found["eval/kl"] == pytest.approx(1.5 * KL)
    again = noted(told, "eval/implicit_gap", {"p1": 0.25})
    assert [len(group.rollouts[0].scores) for group in again] == [1, 2]
