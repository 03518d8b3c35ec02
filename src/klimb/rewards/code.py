"""The share of a row's tests that the code in a completion passes, run in a sandbox."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Literal

from pydantic import Field

from klimb.rewards.base import Reward, Scorer
from klimb.rewards.sandbox.asserts import NoTest
from klimb.rewards.sandbox.box import Box, Limits, Tier
from klimb.rewards.sandbox.cases import cases_of
from klimb.rewards.sandbox.judge import NoSandbox, judge
from klimb.rewards.sandbox.tiers import open_box
from klimb.types import Completion, Outcome, Prompt, Score

FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


class Code(Reward):
    """Runs Python against the tests of the data row: pairs of input and output, or assert lines.

    The code runs without network, without other files than Python's own and with bounded time, memory, disk and
    processes; its outputs and values are compared where it cannot reach. A row without usable tests is unscorable; a
    program that fails, crashes or takes too long has failed its tests.
    """

    type: Literal["code"] = "code"
    tests: str = "tests"
    """The column with the tests: a list of `{input, output}`, lists `inputs` and `outputs`, or assert lines."""
    setup: str = ""
    """A column with lines that the asserts need (imports, values); nothing by default."""
    names: tuple[str, str] = ("input", "output")
    """What input and output are called in the tests."""
    source: Literal["fence", "whole"] = "fence"
    """The code is the last fenced block (the whole text where there is none), or always the whole text."""
    score_by: Literal["fraction", "all"] = "fraction"
    """The share of tests passed, or 1 only where all are."""
    compare: Literal["lines", "exact"] = "lines"
    """Whether spaces at the ends of lines and of the output are ignored."""
    late: Literal["failed", "timed_out"] = "failed"
    """What running out of time is: failed tests, or no score at all."""
    tier: Tier = "namespaces"
    """The weakest sandbox that is accepted; `limits` isolates neither files nor network: for code you trust."""
    deadline: Annotated[float, Field(gt=0.0, le=600.0)] = 4.0
    """Seconds for all tests of one completion."""
    memory_mb: Annotated[int, Field(ge=64, le=65536)] = 512
    """Address space of each process, in MiB."""
    disk_mb: Annotated[int, Field(ge=1, le=4096)] = 16
    """Its private /tmp, in MiB."""
    processes: Annotated[int, Field(ge=1, le=64)] = 4
    """Processes and threads at once."""
    output_kb: Annotated[int, Field(ge=1, le=65536)] = 1024
    """What it may print, in KiB."""
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    """Completions scored at once; 0 = as many as there are processors."""

    def open(self) -> AbstractContextManager[Scorer]:
        return _opened(self)


@contextmanager
def _opened(reward: Code) -> Iterator[Scorer]:
    limits = Limits(
        reward.deadline, reward.memory_mb << 20, reward.disk_mb << 20, reward.processes, reward.output_kb << 10
    )
    with open_box(reward.tier, limits) as box, ThreadPoolExecutor(reward.workers or os.cpu_count() or 1) as pool:
        yield CodeScorer(reward, box, pool)


class CodeScorer:
    """The scorer in an open sandbox; `note` says which tier it has."""

    def __init__(self, reward: Code, box: Box, pool: ThreadPoolExecutor) -> None:
        self._reward, self._box, self._pool = reward, box, pool
        self.note = f"code runs in a sandbox of tier {box.tier} ({box.how})"

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """One score for each pair, several at once."""
        return list(self._pool.map(self._one, prompts, completions))

    def _one(self, prompt: Prompt, completion: Completion) -> Score:
        reward, columns = self._reward, prompt.metadata
        try:
            setup = str(columns.get(reward.setup) or "") if reward.setup else ""
            tests = cases_of(columns.get(reward.tests), reward.names, setup)
        except NoTest as error:
            return Score(Outcome.UNSCORABLE, reason=f"column {reward.tests!r}: {error}"[:300])
        every, source = reward.score_by == "all", code_of(completion.text, reward.source)
        try:
            found = judge(self._box, source, tests, exact=reward.compare == "exact", every=every)
        except (NoSandbox, OSError) as error:
            return Score(Outcome.INFRA_FAILED, reason=f"no sandbox: {error}"[:300])
        if found.late and reward.late == "timed_out":
            return Score(Outcome.TIMED_OUT, reason=found.why)
        value = float(found.passed == found.count) if every else found.passed / found.count
        return Score.of(value, f"{found.passed} of {found.count} tests; {found.why}".rstrip("; "))


def code_of(text: str, source: str) -> str:
    """The code in a completion: its last fenced block, else the whole text."""
    blocks = FENCE.findall(text) if source == "fence" else []
    return str(blocks[-1]) if blocks else text
