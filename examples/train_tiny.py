"""Trains the tiny model from Python, then asks it something. Run: python examples/train_tiny.py [RUN_DIRECTORY]."""

from __future__ import annotations

import sys

import klimb
from klimb.config import resolve
from klimb.generation.base import Request
from klimb.types import Prompt


def main(folder: str = "runs/example") -> None:
    """Sixty steps of RPG on a task of two bytes."""
    recipe = resolve(
        klimb.Recipe,
        {
            "model": {"name": "tiny"},
            "data": {"type": "echo-digit", "digits": 4},
            "rewards": [{"type": "exact"}, {"type": "format", "pattern": "[0-9]", "weight": 0.2}],
            "objective": {"type": "rpg", "divergence": "ufkl"},
            "source": {"prompts": 16, "completions": 16},
            "sampling": {"max_tokens": 1},
            "optimizer": {"lr": 3e-3},
            "training": {"steps": 60},
            "evaluation": {"every": 30, "problems": 32},
        },
    )
    result = klimb.train(recipe, run=folder)
    print(f"accuracy {result.before['eval/accuracy']:.2f} -> {result.after['eval/accuracy']:.2f}; {result.report}")

    policy = klimb.load_policy(recipe.model.model_copy(update={"name": str(result.model)}))
    asked = policy.render(Prompt("mine", text="z3="))
    with recipe.generator.open(policy) as sampler:
        (answers,) = sampler.sample([Request(asked.tokens, tuple(range(8)))], recipe.sampling)
    print("z3= ->", " ".join(answer.text for answer in answers))


if __name__ == "__main__":
    main(*sys.argv[1:2])
