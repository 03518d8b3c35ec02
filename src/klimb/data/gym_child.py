"""The program that makes reasoning-gym problems, in a process of its own.

Some of its tasks depend on the order of sets, hence on PYTHONHASHSEED, which can only be set before Python starts.
Reads one JSON object from the standard input and writes one to the standard output. Run by its path.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any


def main() -> None:
    """Makes the problems that the request asks for."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some tasks print
    try:
        answer = make(json.load(sys.stdin))
    except Exception as error:  # noqa: BLE001 - said to the parent, which raises it by name
        answer = {"error": f"{type(error).__name__}: {error}"[:300]}
    with os.fdopen(answers, "w", encoding="ascii") as channel:
        json.dump(answer, channel)


def make(request: Mapping[str, Any]) -> dict[str, Any]:
    """Goes through the task's items in order; a hash of the question says on which side each stands."""
    size, dataset = opened(request)
    train: list[Any] = []
    held: dict[str, Any] = {}
    for index in range(size):
        if len(train) >= request["train"] and len(held) >= request["held_out"]:
            break
        item = dataset[index]
        question, answer = str(item["question"]), item["answer"]
        made = [index, question, answer if isinstance(answer, str) else None]
        key = " ".join(question.split())
        if hashlib.blake2b(f"{request['seed']} {key}".encode("utf-8", "replace"), digest_size=1).digest()[0] < 64:
            if len(held) < request["held_out"]:
                held.setdefault(key, made)
        elif len(train) < request["train"]:
            train.append(made)
    return {"size": size, "train": train, "held_out": list(held.values())}


def opened(request: Mapping[str, Any]) -> tuple[int, Any]:
    """The data set with room for what is asked; some tasks take only smaller ones."""
    import reasoning_gym

    size = 2 * request["train"] + 16 * request["held_out"]
    while True:
        try:
            return size, reasoning_gym.create_dataset(
                request["task"], seed=request["seed"], size=size, **request["parameters"]
            )
        except (ValueError, AssertionError) as error:
            if "size" not in str(error) or size <= 32:
                raise
            size //= 2


if __name__ == "__main__":
    main()
