"""The 135M model: its fast samples have the model's own log-probs, and its trainer's, within the stated precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from klimb.batch import Batch
from klimb.generation.base import Request, Sampling
from klimb.generation.local import Local
from klimb.policy import pull
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.types import Completion, Group, Message, Prompt, Rollout
from tests.generation.helpers import truth

pytestmark = [pytest.mark.model, pytest.mark.slow]

QUESTIONS = ("What is 3 plus 5?", "Name three colours of the rainbow, and say what you like about them.")
SAMPLING = Sampling(max_tokens=32)


def sampled(precision: str) -> tuple[Policy, list[tuple[Prompt, tuple[Completion, ...]]]]:
    folder = pull.resolve("smollm2-135m")
    if folder is None:
        pytest.skip("no smollm2-135m in the cache: klimb pull smollm2-135m")
    policy = load(PolicySettings(name=str(folder), precision=precision))
    prompts = [policy.render(Prompt(str(i), (Message("user", text),))) for i, text in enumerate(QUESTIONS)]
    with Local(engine="fast").open(policy) as sampler:
        done = sampler.sample([Request(prompt.tokens, (1, 2, 3)) for prompt in prompts], SAMPLING)
    return policy, list(zip(prompts, done, strict=True))


def gap(
    done: list[tuple[Prompt, tuple[Completion, ...]]], other: Callable[[Prompt, Completion], torch.Tensor]
) -> float:
    gaps = [(torch.tensor(c.logps) - other(prompt, c)).abs() for prompt, row in done for c in row]
    return float(torch.cat(gaps).mean())


def of_model(policy: Policy) -> Callable[[Prompt, Completion], torch.Tensor]:
    def logps(prompt: Prompt, done: Completion) -> torch.Tensor:
        return truth(policy.model, prompt.tokens, done.tokens).gather(1, torch.tensor(done.tokens)[:, None])[:, 0]

    return logps


def of_trainer(policy: Policy) -> Callable[[Prompt, Completion], torch.Tensor]:
    def logps(prompt: Prompt, done: Completion) -> torch.Tensor:
        with torch.no_grad():
            return policy(Batch.of([Group(prompt, (Rollout(done, 0, 0),))])).logp.float()

    return logps


def test_in_float32_the_log_probs_are_the_models_and_the_trainers() -> None:
    policy, done = sampled("float32")
    assert gap(done, of_model(policy)) < 1e-4
    assert gap(done, of_trainer(policy)) < 1e-4


def test_in_bfloat16_they_agree_within_its_rounding() -> None:
    policy, done = sampled("bfloat16")
    assert gap(done, of_model(policy)) < 0.08
    assert gap(done, of_trainer(policy)) < 0.08
