"""A contestant of the benchmark: a child process that does one optimizer step when told, and otherwise sleeps."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Self, TypedDict

STAGES = ("sampling", "forward and backward", "optimizer", "other", "step")


class Options(argparse.ArgumentParser):
    """The command line of a benchmark, its help taken from the module's docstring."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def number(self, name: str, default: int, text: str) -> None:
        """An option with a whole number."""
        self.add_argument(name, type=int, metavar="N", default=default, help=f"{text} (default {default})")

    def switch(self, name: str, text: str) -> None:
        """An option that is there or not."""
        self.add_argument(name, action="store_true", help=text)


class Step(TypedDict):
    """What a child says of one step."""

    seconds: dict[str, float]
    tokens: int
    """Completion tokens, each with its end-of-sequence token."""
    full: int
    """Completions that reached the limit."""
    rows: int
    peak_gb: float


class Contestant:
    """One side. `job` is written to a file that the child reads; what the child prints goes to a log beside it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        job: Mapping[str, Any],
        folder: Path,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        file = folder / f"{name}.json"
        file.write_text(json.dumps(dict(job)), "utf-8")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | dict(variables),
            )
        self.steps: list[Step] = []
        self.listen()
        self.rest()

    def listen(self) -> Step:
        """The next line that the child sends. Stops the benchmark where the child died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-25:])
            raise SystemExit(f"{self.name} stopped with code {self.process.wait()}; its last words:\n{tail}")
        answer: Step = json.loads(line)
        return answer

    def step(self, keep: bool) -> Step:
        """Lets the child do one step, alone on the machine; a warm-up step is not kept."""
        assert self.process.stdin is not None
        os.kill(self.process.pid, signal.SIGCONT)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self.listen()
        self.rest()
        if keep:
            self.steps.append(answer)
        return answer

    def rest(self) -> None:
        """Halts the child, so that no thread of its own (a progress bar's, a pool's) takes time from the other side."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def seconds(self, stage: str) -> float:
        """The median of a stage's seconds over the kept steps."""
        return median(step["seconds"].get(stage, 0.0) for step in self.steps)

    def seconds_per_1k(self, stage: str) -> float:
        """The median over the steps of a stage's seconds for 1,000 completion tokens."""
        return median(step["seconds"].get(stage, 0.0) / step["tokens"] * 1000 for step in self.steps)

    def tokens(self) -> float:
        """The median number of completion tokens in a step."""
        return median(step["tokens"] for step in self.steps)

    def full(self) -> float:
        """The share of completions that reached the limit."""
        return sum(step["full"] for step in self.steps) / sum(step["rows"] for step in self.steps)

    def peak_gb(self) -> float:
        """The most memory that the child ever held, in GB."""
        return max(step["peak_gb"] for step in self.steps)
