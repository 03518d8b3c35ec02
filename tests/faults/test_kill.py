"""Killed anywhere, resumed to the end: every byte is that of the unbroken run."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.runs import SETTINGS, content, context, go

KILLS = int(os.environ.get("KLIMB_KILLS", "30"))


class Child:
    """A run in its own process."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        spawn = context()
        self.hear, tell = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=go, args=(str(path), settings, tell))
        self.process.start()
        tell.close()

    def stages(self, stop_at: tuple[str, int] | None = None) -> list[str]:
        """The stages heard until the end, or until stage `stop_at` begins for the nth time."""
        heard: list[str] = []
        while self.hear.poll(60):
            try:
                heard.append(self.hear.recv())
            except EOFError:
                break
            if stop_at and heard[-1] == stop_at[0] and heard.count(stop_at[0]) == stop_at[1]:
                break
        return heard

    def wait(self) -> int:
        """The exit code."""
        self.process.join(60)
        return int(self.process.exitcode)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    path = tmp_path_factory.mktemp("unbroken") / "run"
    child = Child(path, SETTINGS)
    stages = child.stages()
    assert child.wait() == 0 and stages[-1] == "finished"
    found = content(path)
    norms = [line.get("optim/grad_norm", 0.0) for line in found["metrics.jsonl"] if isinstance(line, dict)]
    assert sum(norm > 0 for norm in norms) > 5, "a run that learns nothing would prove nothing"
    return found, stages


@pytest.mark.parametrize("case", range(KILLS))
def test_a_run_killed_anywhere_ends_as_the_unbroken_one(
    case: int, tmp_path: Path, unbroken: tuple[dict[str, Any], list[str]]
) -> None:
    wanted, stages = unbroken
    dice = random.Random(case)
    path, died_in = tmp_path / "run", []
    for _ in range(dice.choice((1, 1, 2))):
        stage = ("sample", "train", "save", "optimize", "evaluate")[(case + len(died_in)) % 5]
        moment = (stage, dice.randint(1, max(1, stages.count(stage) - 1)))
        child = Child(path, SETTINGS)
        child.stages(moment)
        time.sleep(dice.random() * 0.03)
        child.process.kill()
        died_in.append((stage, child.wait()))
    assert -signal.SIGKILL in [code for _, code in died_in], "no kill came in time"
    child = Child(path, SETTINGS)
    child.stages()
    assert child.wait() == 0
    ended = content(path)
    assert ended.keys() == wanted.keys(), died_in
    assert [name for name in wanted if ended[name] != wanted[name]] == [], died_in


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_with_its_own_code_and_the_run_goes_on(
    number: signal.Signals, tmp_path: Path, unbroken: tuple[dict[str, Any], list[str]]
) -> None:
    path = tmp_path / "run"
    child = Child(path, SETTINGS)
    child.stages(("train", 5))
    assert child.process.pid is not None
    os.kill(child.process.pid, number)
    child.stages()
    assert child.wait() == 1, "train raises Interrupted, whose code the command line turns into 128 + the signal"
    saved = sorted(folder.name for folder in (path / "checkpoints").glob("step-*"))
    assert saved, "the state was saved before it stopped"
    child = Child(path, SETTINGS)
    assert "finished" in child.stages() and child.wait() == 0
    wanted, _ = unbroken
    ended = content(path)
    assert [name for name in wanted if ended.get(name) != wanted[name]] == []
