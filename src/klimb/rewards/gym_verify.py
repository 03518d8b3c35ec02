"""What a worker runs to check an answer to a reasoning-gym problem. Loaded by its path; imports nothing of klimb."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import reasoning_gym


def verify(completion: str, gym: dict[str, Any]) -> float:
    """The verifier's score, from 0 to 1, of an answer to the problem that `gym` names."""
    origin = {name: value for name, value in gym.items() if name != "index"}
    dataset = _dataset(json.dumps(origin, sort_keys=True))
    return float(dataset.score_answer(completion, dataset[gym["index"]]))


@lru_cache(maxsize=8)
def _dataset(origin: str) -> Any:
    made = json.loads(origin)
    return reasoning_gym.create_dataset(made["task"], seed=made["seed"], size=made["size"], **made["parameters"])
