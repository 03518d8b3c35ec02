"""The tasks of reasoning-gym (an extra): some hundred kinds of generated problems with verifiers."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from klimb.data.base import Data, Example, Problems
from klimb.errors import DataError, KlimbError, SettingsError
from klimb.nearest import nearest
from klimb.types import Prompt

_EXTRA = "pip install 'klimb[gym]'"


class Gym(Data):
    """Makes problems of one task. A quarter of the questions, chosen by a hash, can only be held out, never learned."""

    type: Literal["gym"] = "gym"
    task: str
    """The task's name in reasoning-gym, such as chain_sum, letter_counting or countdown."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """The task's own settings of difficulty, such as {min_terms: 2, max_terms: 2}."""
    train: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """How many training problems are made."""
    held_out: Annotated[int, Field(ge=1, le=10_000)] = 64
    """How many different held-out problems, at most: small tasks have fewer."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Which problems are made."""
    deadline: Annotated[float, Field(gt=0.0)] = 300.0
    """Seconds in which they must be made; most tasks need a thousandth of a second each, a few a fifth."""

    def faults(self) -> list[KlimbError]:
        """An unknown task, or parameters that it does not take."""
        try:
            from reasoning_gym.factory import DATASETS
        except ImportError:
            return [KlimbError("data of type gym", "no `reasoning_gym` package", _EXTRA)]
        if self.task not in DATASETS or self.task == "composite":
            near = nearest(self.task, [name for name in DATASETS if name != "composite"])
            cure = f"task={near}" if near else f"one of {', '.join(sorted(set(DATASETS) - {'composite'}))}"
            return [KlimbError("task is a task of reasoning-gym", repr(self.task), cure)]
        record = DATASETS[self.task][1]
        names = {field.name for field in dataclasses.fields(record)} - {"seed", "size"}
        unknown = [
            KlimbError(
                f"parameters.{name} is a setting of {self.task}",
                f"it has {', '.join(sorted(names))}",
                _near(name, names),
            )
            for name in self.parameters
            if name not in names
        ]
        return unknown or _unfit(self.task, record, self.parameters)

    def open(self) -> Problems:
        if found := self.faults():
            raise SettingsError(found)
        made = self._make()
        sides = {side: made[side] for side in ("train", "held_out")}
        for side, wanted in (("train", self.train + self.shots), ("held_out", 1)):
            if len(sides[side]) < wanted:
                found_there = f"{len(sides[side])} among {made['size']} items"
                cure = (
                    f"train: {len(sides[side])}, or more varied parameters" if sides[side] else "more varied parameters"
                )
                raise DataError(f"{wanted} {side} problems of {self.task}", found_there, cure)
        shown = [Example(question, answer or "") for _, question, answer in sides["train"][: self.shots]]
        del sides["train"][: self.shots]
        train, held = (tuple(self._prompts(side, rows, shown, made["size"])) for side, rows in sides.items())
        return Problems(train, held)

    def _prompts(self, side: str, rows: list[Any], shown: list[Example], size: int) -> list[Prompt]:
        origin = {"task": self.task, "parameters": self.parameters, "seed": self.seed, "size": size}
        name = f"{self.task}-{side.replace('_', '-')}"
        return [
            self.ask(f"{name}-{number}", question, answer, shown, {"gym": origin | {"index": index}})
            for number, (index, question, answer) in enumerate(rows)
        ]

    def _make(self) -> dict[str, Any]:
        asked = f"problems of the reasoning-gym task {self.task}"
        request = self.model_dump(include={"task", "parameters", "held_out", "seed"}) | {
            "train": self.train + self.shots
        }
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(Path(__file__).with_name("gym_child.py"))],
                input=json.dumps(request),
                capture_output=True,
                check=False,
                encoding="utf-8",
                timeout=self.deadline,
                env=os.environ | {"PYTHONHASHSEED": "0"},
            )
        except subprocess.TimeoutExpired as error:
            cure = "fewer problems, easier parameters, or a longer deadline"
            raise DataError(asked, f"not made in {self.deadline:g} s", cure) from error
        made: dict[str, Any] = json.loads(done.stdout or "{}")
        if "train" not in made:
            found = made.get("error") or f"its process ended with {done.returncode}"
            raise DataError(asked, found, "other parameters")
        return made


def _near(name: str, names: set[str]) -> str:
    near = nearest(name, names)
    return f"parameters.{near}" if near else "take it out"


def _unfit(task: str, record: Any, parameters: Mapping[str, Any]) -> list[KlimbError]:
    """What the task itself says against the values of its parameters."""
    try:
        record(**parameters).validate()
    except Exception as error:  # noqa: BLE001 - a wrong type may raise anything in there
        found = f"{type(error).__name__}: {error}".removeprefix("AssertionError: ")
        return [KlimbError(f"parameters that {task} takes", found[:200], "mend the values")]
    return []
