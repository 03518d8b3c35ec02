"""The work of the benchmarks: what is asked, and the klimb recipe that asks it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from klimb.config import resolve
from klimb.recipe import Recipe
from klimb.seeds import permutation

NEVER = 10**6


def questions(count: int) -> list[str]:
    """Sums of five numbers, asked so that about half of SmolLM2-135M's answers reach 96 tokens."""
    draw = random.Random(0)

    def one() -> str:
        signs = [draw.choice("+-") for _ in range(4)]
        total = str(draw.randint(1, 99)) + "".join(f" {sign} {draw.randint(1, 99)}" for sign in signs)
        return f"What is {total}? Show the sums you do on the way, briefly, then the result."

    return [one() for _ in range(count)]


def recipe(job: Mapping[str, Any], folder: Path) -> Recipe:
    """The job as a recipe; prompts are laid out so that klimb's seeded order asks them in the job's."""
    asked = job["questions"]
    rows = dict(zip(permutation(job["seed"], 0, len(asked)).tolist(), asked, strict=True))
    folder.mkdir(parents=True)
    write_rows(folder / "train.jsonl", [rows[index] for index in range(len(asked))])
    write_rows(folder / "held_out.jsonl", ["What is 1 + 1?"])
    training = {"steps": NEVER} | ({"micro_tokens": job["micro_tokens"]} if job["micro_tokens"] else {})
    return resolve(
        Recipe,
        {
            "model": {"name": job["model"], "precision": job["precision"], "checkpointing": job["checkpointing"]},
            "data": {"type": "jsonl", "path": str(folder / "train.jsonl"), "held_out": str(folder / "held_out.jsonl")},
            "rewards": [{"type": "function", "path": f"{Path(__file__).with_name('rewarding.py')}:reward"}],
            "objective": {"type": "grpo"},
            "source": {"prompts": job["prompts"], "completions": job["completions"]},
            "sampling": {"max_tokens": job["tokens"], "temperature": 1.0},
            "optimizer": {"lr": job["lr"], "warmup": 0, "clip": 1.0},
            "training": training,
            "evaluation": {"every": NEVER, "problems": 1, "start": False, "end": False, "correct": "function"},
            "checkpoints": {"every": NEVER},
            "seed": job["seed"],
        },
    )


def write_rows(path: Path, asked: list[str]) -> None:
    """One JSON row for each question."""
    rows = (json.dumps({"prompt": question, "answer": str(index)}) for index, question in enumerate(asked))
    path.write_text("\n".join(rows) + "\n", "utf-8")
