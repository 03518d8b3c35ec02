"""Killed anywhere, resumed to the end: every byte is that of the unbroken run."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.faults.runs import SETTINGS, content, context, go

KILLS = int(os.environ.get("KLIMB_KILLS", "10"))
"""In `make test`; thirty more, at other moments, in `make test-all`."""
STAGES = ("sample", "train", "save", "optimize", "evaluate")


class Child:
    """A run in its own process."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        spawn = context()
        self.hear, tell = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=go, args=(str(path), settings, tell))
        self.process.start()
        tell.close()

    def stages(self, stop_at: tuple[str, int] | None = None) -> list[tuple[str, float]]:
        """What is heard until the end, or until stage `stop_at` begins for the nth time: names and times."""
        heard: list[tuple[str, float]] = []
        while self.hear.poll(60):
            try:
                heard.append(self.hear.recv())
            except EOFError:
                break
            if stop_at and [name for name, _ in heard].count(stop_at[0]) == stop_at[1] and heard[-1][0] == stop_at[0]:
                break
        return heard

    def wait(self) -> int:
        """The exit code."""
        self.process.join(60)
        return int(self.process.exitcode)


class Unbroken:
    """The run that nobody disturbs: its content, how often each stage came, and how long it took."""

    def __init__(self, path: Path) -> None:
        child = Child(path, SETTINGS)
        heard = child.stages()
        assert child.wait() == 0
        assert heard[-1][0] == "finished"
        self.content: dict[str, Any] = content(path)
        self.visits = Counter(name for name, _ in heard)
        pairs = list(pairwise(heard))
        self.seconds = {
            stage: median([end - start for (name, start), (_, end) in pairs if name == stage] or [0.001])
            for stage in STAGES
        }


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    run = Unbroken(tmp_path_factory.mktemp("unbroken") / "run")
    norms = [line.get("optim/grad_norm", 0.0) for line in run.content["metrics.jsonl"]]
    assert sum(norm > 0 for norm in norms) > 5, "a run that learns nothing would prove nothing"
    return run


def kill(path: Path, moment: tuple[str, int], delay: float, settings: dict[str, Any] = SETTINGS) -> str:
    """Kills a run some seconds after a stage began; the stage it died in, or what else happened."""
    child = Child(path, settings)
    child.stages(moment)
    time.sleep(delay)
    child.process.kill()
    code = child.wait()
    after = [name for name, _ in child.stages()]
    if code != -signal.SIGKILL:
        return "ended before the kill"
    if not after:
        return moment[0]
    return after[-1] if after[-1] in STAGES else "between stages"


@pytest.mark.parametrize("cases", [range(KILLS), pytest.param(range(100, 130), marks=pytest.mark.slow)], ids=len)
def test_runs_killed_in_every_stage_end_as_the_unbroken_one(cases: range, tmp_path: Path, unbroken: Unbroken) -> None:
    died: Counter[str] = Counter()
    for case in cases:
        dice = random.Random(case)
        path, stage = tmp_path / str(case), STAGES[case % len(STAGES)]
        moment = (stage, dice.randint(1, unbroken.visits[stage] - 1))
        died[where := kill(path, moment, dice.random() * 0.6 * unbroken.seconds[stage])] += 1
        child = Child(path, SETTINGS)
        child.stages()
        assert child.wait() == 0, where
        ended = content(path)
        assert ended.keys() == unbroken.content.keys(), where
        assert [name for name in ended if ended[name] != unbroken.content[name]] == [], where
    print(dict(died))
    assert died["ended before the kill"] == 0
    assert min(died[stage] for stage in ("sample", "train", "save")) >= len(cases) // 10, died


def test_a_run_killed_again_and_again_ends_as_the_unbroken_one(tmp_path: Path, unbroken: Unbroken) -> None:
    dice = random.Random(0)
    for _ in range(6):
        kill(tmp_path / "run", (dice.choice(STAGES), 1), dice.random() * 0.05)
    child = Child(tmp_path / "run", SETTINGS)
    child.stages()
    assert child.wait() == 0
    assert content(tmp_path / "run") == unbroken.content


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(number: signal.Signals, tmp_path: Path, unbroken: Unbroken) -> None:
    path = tmp_path / "run"
    child = Child(path, SETTINGS)
    child.stages(("train", 5))
    assert child.process.pid is not None
    os.kill(child.process.pid, number)
    child.stages()
    assert child.wait() == 1, "train raises Interrupted, whose code the command line turns into 128 + the signal"
    assert list((path / "checkpoints").glob("step-*")), "the state was saved before it stopped"
    child = Child(path, SETTINGS)
    assert "finished" in [name for name, _ in child.stages()]
    assert child.wait() == 0
    ended = content(path)
    assert [name for name in unbroken.content if ended.get(name) != unbroken.content[name]] == []


CARRIED: dict[str, dict[str, Any]] = {
    "reinforce": {
        "type": "reinforce", "baseline": "moving", "beta": 0.05,
        "kl": {"control": {"target": 0.001}, "refresh": {"every": 3}},
    },
    "rpg": {
        "type": "rpg", "beta": 0.01, "reference": "refreshed", "refresh": {"kappa": 1e-4, "decay": 0.5},
        "control": {"target": 0.001},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["reinforce", pytest.param("rpg", marks=pytest.mark.slow)])
def test_a_run_that_refreshes_its_reference_and_steers_its_coefficient_goes_on_to_the_same_bytes(
    name: str, tmp_path: Path
) -> None:
    settings = SETTINGS | {"objective": CARRIED[name]}
    child = Child(tmp_path / "whole", settings)
    child.stages()
    assert child.wait() == 0
    whole = content(tmp_path / "whole")
    lines: Any = whole["metrics.jsonl"][1:]
    ages, betas = ([line[key] for line in lines] for key in ("policy/reference_age", "objective/kl_coefficient"))
    assert ages.count(1.0) > 1, "refreshed at least once"
    assert len(set(betas)) == len(betas), "another coefficient in every step"
    last = "checkpoints/step-000009/"
    assert {last + "reference.safetensors", last + "controller.safetensors"} <= set(whole)
    assert (last + "baseline.safetensors" in whole) is (name == "reinforce")
    assert kill(tmp_path / "run", ("optimize", 14), 0.0, settings) != "ended before the kill"
    child = Child(tmp_path / "run", settings)
    child.stages()
    assert child.wait() == 0
    ended = content(tmp_path / "run")
    assert [file for file in whole if ended.get(file) != whole[file]] == []
