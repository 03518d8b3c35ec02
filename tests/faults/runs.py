"""A small run in a process of its own, which tells what it is doing, so that it can be killed in the middle of it."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

PAGES = ("klimb.tracking.report.draw", "klimb.tracking.proxies.draw")
"""What draws the charts of a report: half of the time of a short run."""
SETTINGS: dict[str, Any] = {
    "model": {"name": "tiny", "tiny": {"hidden": 32}},
    "data": {"type": "echo-digit", "train": 64},
    "rewards": [{"type": "exact"}, {"type": "format", "pattern": ".*[0-9A-Za-z].*", "weight": 0.2}],
    "objective": {"type": "rpg", "beta": 0.01, "reference": "initial"},
    "source": {"prompts": 4, "completions": 4, "minibatches": 2},
    "sampling": {"max_tokens": 4},
    "optimizer": {"type": "adamw", "lr": 0.003},
    "training": {"steps": 9, "micro_tokens": 64},
    "evaluation": {"every": 3, "problems": 8},
    "checkpoints": {"every": 2, "keep": 2},
}
PRELOAD = [
    "klimb.run", "klimb.policy.loading", "klimb.training.loop", "klimb.tracking.report", "tests.faults.runs",
    "klimb.generation.engine.sampler", "klimb.generation.engine.choose", "klimb.training.optimizer",
    "klimb.training.carrying", "klimb.training.remembered", "klimb.functional.clip", "klimb.functional.divergence",
    "klimb.tracking.proxies", "pyarrow.dataset", "pandas",
]  # fmt: skip
"""Whatever a run imports on its way: what is here is imported once, not once a process."""


def empty_charts(patch: pytest.MonkeyPatch) -> None:
    """Leaves the charts of reports out."""
    for name in PAGES:
        patch.setattr(name, lambda *_, **__: "<svg></svg>")


def context() -> Any:
    """Where new processes come from: one that has imported everything and has run nothing."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOAD)
    return made


def go(path: str, settings: dict[str, Any], tell: Connection) -> None:
    """Runs or continues the run in `path`, saying the name of each stage as it begins."""
    import torch

    from klimb.recipe import Recipe
    from klimb.run import train
    from klimb.training.stopwatch import Stopwatch

    torch.set_num_threads(1)
    real = Stopwatch.stage

    @contextmanager
    def stage(self: Stopwatch, name: str) -> Iterator[None]:
        tell.send((name, time.perf_counter()))
        with real(self, name):
            yield
        tell.send(("end", time.perf_counter()))

    Stopwatch.stage = stage  # type: ignore[method-assign]
    empty_charts(pytest.MonkeyPatch())
    train(Recipe.model_validate(settings), run=Path(path))
    tell.send(("finished", time.perf_counter()))


def content(path: Path) -> dict[str, bytes | list[dict[str, Any]]]:
    """All of a run that must not depend on how often it was interrupted: file by file, and metrics without times."""
    seen: dict[str, bytes | list[dict[str, Any]]] = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if (
            file.is_file()
            and "/broken-" not in name
            and name.split("/")[0] in ("rollouts", "evaluations", "checkpoints", "config.json")
        ):
            seen[name] = file.read_bytes()
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in line.items() if not k.startswith(("time/", "memory/"))} for line in lines]
    return seen | {"metrics.jsonl": timeless}
