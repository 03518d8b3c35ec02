"""What a selector saves or costs in the training part of a step, on one batch of random rollouts.

Usage: python bench/selection_savings.py [--model NAME --prompts N --completions N --tokens N --repeats N]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

from klimb.batch import Batch
from klimb.objectives.dapo import DAPO
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.selection import Every, Random, Selector, Top
from klimb.selection.base import EntropyOf
from klimb.training.base import AdamW, Training
from klimb.training.optimizer import MasterAdamW
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch

ARMS: dict[str, Selector] = {
    "every": Every(),
    "random 0.2": Random(share=0.2),
    "top 0.2, sampling": Top(share=0.2),
    "top 0.2, current": Top(share=0.2, entropy=EntropyOf(of="current")),
    "top 0.02, sampling": Top(share=0.02),
}


def rollouts(prompts: int, completions: int, tokens: int) -> Batch:
    """Completions of random bytes, with random rewards and entropies."""
    draw = torch.Generator().manual_seed(0)
    rows = prompts * completions
    count = rows * tokens
    row = torch.arange(rows).repeat_interleave(tokens)
    return Batch(
        tokens=torch.randint(0, 200, (count,), generator=draw),
        row=row,
        group=torch.arange(prompts).repeat_interleave(completions),
        prompts=tuple(torch.randint(0, 200, (16,), generator=draw) for _ in range(prompts)),
        learn=torch.ones(count, dtype=torch.bool),
        reward=torch.randn(rows, generator=draw),
        scored=torch.ones(rows, dtype=torch.bool),
        truncated=torch.zeros(rows, dtype=torch.bool),
        entropy=torch.rand(count, generator=draw),
        key=torch.arange(rows),
    )


def seconds(policy: Policy, selector: Selector, batch: Batch, repeats: int) -> float:
    """The median processor time of learning from the batch, at a learning rate of zero."""
    optimizer = MasterAdamW(policy.named_parameters(), AdamW(lr=0.0))
    learner = Learner(policy, optimizer, DAPO(), selector, Training())
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        learn(learner, batch, 0.0, 0, Stopwatch())
        times.append(time.process_time() - start)
    return median(times[1:])


def main() -> None:
    """Prints a line for each selector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    for name, value in (("prompts", 4), ("completions", 4), ("tokens", 32), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    policy = load(PolicySettings(name=asked.model, precision="float32"), 0)
    batch = rollouts(asked.prompts, asked.completions, asked.tokens)
    first = 0.0
    print("| selector | processor seconds | of `every` |\n| --- | ---: | ---: |")
    for name, selector in ARMS.items():
        spent = seconds(policy, selector, batch, asked.repeats)
        first = first or spent
        print(f"| {name} | {spent:.4f} | {spent / first:.2f} |", flush=True)


if __name__ == "__main__":
    main()
