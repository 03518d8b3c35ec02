"""A reward by a Python function in a user's own file, run in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from klimb.errors import RewardError
from klimb.rewards.base import Reward, Scorer
from klimb.rewards.calling import PATIENCE, FunctionScorer
from klimb.rewards.isolate import Worker


class Function(Reward):
    """Calls `f(prompt, completion, answer)`, or TRL's `f(prompts, completions, **columns)`; plain or async.

    It returns a number (True and False are 1 and 0), or a list of them. What raises, dies, answers too late or returns
    anything else is counted as that, and never as zero. Whatever it prints is dropped. The random generators of Python,
    numpy and torch are seeded by the sample before each call.
    """

    type: Literal["function"] = "function"
    path: Annotated[str, Field(pattern=r"^.+\.py:[A-Za-z_][A-Za-z_0-9]*$")]
    """Where the function stands: `file.py:name`, from the working directory."""
    deadline: Annotated[float, Field(gt=0.0, le=3600.0)] = 10.0
    """Seconds for one call; then its process is killed, and a new one serves the next."""
    patience: Annotated[int, Field(ge=0)] = PATIENCE
    """After so many failures in a row with a timeout among them, as many answers are passed over, healthy ones too, and
    counted as infra_failed; 0 = every answer is tried, and a function that always hangs costs a deadline each."""
    start_deadline: Annotated[float, Field(gt=0.0, le=3600.0)] = 120.0
    """Seconds for importing the file."""
    memory_gb: Annotated[float, Field(ge=0.0)] = 16.0
    """Address space that its process may take, in GiB; 0 = no limit (CUDA needs that)."""

    def open(self) -> AbstractContextManager[Scorer]:
        return _opened(self)


@contextmanager
def _opened(reward: Function) -> Iterator[Scorer]:
    file, _, name = reward.path.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise RewardError(f"the file of the reward function {name!r}", f"no file {path.resolve()}", "correct its path")
    worker = Worker(path, name, memory_gb=reward.memory_gb, start_s=reward.start_deadline)
    try:
        worker.start()
        yield FunctionScorer(worker, reward.deadline, reward.patience)
    finally:
        worker.close()
