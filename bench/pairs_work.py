"""The work of the benchmark on preference pairs: which pairs, the klimb recipe that learns from them, token ids."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from klimb.config import resolve
from klimb.data.preferences import Preferences
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.recipe import Recipe
from klimb.rendering import encoding
from klimb.seeds import permutation
from klimb.session import problems_of
from klimb.sources.base import Supplies
from klimb.types import Group, Reply

NEVER = 10**6
HEAD_SCALE = 0.02
NOISE = 0.02
Row = dict[str, Any]


def made_pairs(count: int) -> list[Row]:
    """Pairs without a file: a question of 30 to 200 words, and two answers of 20 to 120 words."""
    draw = random.Random(0)
    words = ("one", "green", "river", "walks", "over", "the", "old", "house", "and", "sees", "how", "rain", "falls")

    def text(low: int, high: int) -> str:
        return " ".join(draw.choice(words) for _ in range(draw.randint(low, high))).capitalize() + "."

    return [
        {"prompt": [{"role": "user", "content": text(30, 200)}], "chosen": text(20, 120), "rejected": text(20, 120)}
        for _ in range(count)
    ]


def read_pairs(path: Path, form: str, count: int) -> list[Row]:
    """The first pairs of a file, in one of the forms that klimb reads. Stops the benchmark where there are too few."""
    problems = Preferences(path=path, rows=cast(Any, form), skip=True).open()
    rows = [_row(prompt.messages, prompt.text, problems.given[prompt.id]) for prompt in problems.train[:count]]
    if len(rows) < count:
        raise SystemExit(
            f"{path} has {len(rows)} pairs to train on, and the job wants {count}: fewer --steps or --pairs"
        )
    return rows


def _row(messages: Any, text: str | None, replies: tuple[Reply, ...]) -> Row:
    asked = [{"role": one.role, "content": one.content} for one in messages] if messages else text
    return {"prompt": asked, "chosen": replies[0].text, "rejected": replies[1].text}


def recipe(job: Mapping[str, Any], folder: Path) -> Recipe:
    """The job as a recipe; the rows are laid out so that klimb's seeded order learns from them in the job's."""
    given = job["rows"]
    placed = dict(zip(permutation(job["seed"], 0, len(given)).tolist(), given, strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    train, held_out = folder / "train.jsonl", folder / "held_out.jsonl"
    _write(train, [placed[index] for index in range(len(given))])
    _write(held_out, [{"prompt": "What is 1 + 1?", "chosen": "2", "rejected": "3"}])
    objective: dict[str, Any] = {"type": "dpo", "beta": job["beta"]}
    if job["what"] == "reward":
        objective = {"type": "bradley_terry", "centring": job["centring"]}
    cut = {"prompt_tokens": job["prompt_tokens"], "answer_tokens": job["answer_tokens"]}
    training = {"steps": NEVER} | ({"micro_tokens": job["micro_tokens"]} if job["micro_tokens"] else {})
    return resolve(
        Recipe,
        {
            "model": {"name": job["model"], "precision": job["precision"], "checkpointing": job["checkpointing"]},
            "data": {"type": "preferences", "path": str(train), "held_out": str(held_out)},
            "objective": objective,
            "source": {"type": "pairs", "prompts": job["pairs"], **cut},
            "sampling": {"max_tokens": 8},
            "optimizer": {"lr": job["lr"], "warmup": 0, "clip": 1.0},
            "training": training,
            "evaluation": {"every": NEVER, "problems": 1, "start": False, "end": False},
            "checkpoints": {"every": NEVER},
            "seed": job["seed"],
        },
    )


def token_ids(job: Mapping[str, Any], folder: Path) -> list[Row]:
    """The token ids that klimb learns from, in their order: the other side is given these and nothing else."""
    settings = recipe(job, folder)
    problems, policy = problems_of(settings), load(settings.model, settings.seed)
    unused = cast(Any, None)
    supplies = Supplies(
        prompts=[policy.render(prompt, 8) for prompt in problems.train], sampler=unused, sampling=settings.sampling,
        score_all=unused, weights={}, version=lambda: "", seed=settings.seed, stage=unused, given=problems.given,
        encode=encoding(policy, settings.scorer),
    )  # fmt: skip
    source = settings.source.open(supplies)
    return [_ids(group) for step in range(1, job["steps"] + 1) for group in source.groups(step)]


def _ids(group: Group) -> Row:
    chosen, rejected = (list(rollout.completion.tokens) for rollout in group.rollouts)
    return {"prompt_ids": list(group.prompt.tokens), "chosen_ids": chosen, "rejected_ids": rejected}


def head(width: int) -> torch.Tensor:
    """The first weights of both sides' value head (d): not zero, so that the first gradient reaches every layer."""
    return torch.randn(width, generator=torch.Generator().manual_seed(0)) * HEAD_SCALE


def other_model(name: str, folder: Path) -> str:
    """A folder with the same model, its weights moved a little: the reference of both sides.

    Where the reference is the policy itself, every log-ratio is zero and every loss log 2, whoever computes it.
    """
    policy, draw = load(PolicySettings(name=name, precision="float32", device="cpu")), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(torch.randn(weight.shape, generator=draw) * NOISE * weight.std())
    policy.save(folder)
    return str(folder)


def _write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
