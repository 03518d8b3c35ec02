"""Scores by other people's packages: each runs its small program in a process that can be killed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from klimb.errors import RewardError
from klimb.rewards.base import Reward, Scorer
from klimb.rewards.calling import FunctionScorer
from klimb.rewards.isolate import Worker
from klimb.types import Completion, Prompt, Score


class Packaged(Reward):
    """A source whose package is an extra of klimb; absent, it is one clear error before anything else starts."""

    package: ClassVar[str]
    """The module that must be there."""
    extra: ClassVar[str]
    """The extra of klimb that installs it."""
    program: ClassVar[str]
    """The file in `programs/` whose function `score` is called."""
    deadline: Annotated[float, Field(gt=0.0, le=3600.0)] = 10.0
    """Seconds for one completion; then the process is killed, and a new one serves the next."""

    def given(self) -> dict[str, Any]:
        """What the program is told of the settings."""
        return {}

    def open(self) -> AbstractContextManager[Scorer]:
        return _opened(self)


@contextmanager
def _opened(reward: Packaged) -> Iterator[Scorer]:
    if importlib.util.find_spec(reward.package) is None:
        asked = f"reward of type {getattr(reward, 'type', reward.extra)}"
        raise RewardError(asked, f"no `{reward.package}` package", f"pip install 'klimb[{reward.extra}]'")
    file = Path(__file__).parent / "programs" / f"{reward.program}.py"
    worker = Worker(file, "score", memory_gb=0, start_s=120)
    told = reward.given()
    try:
        worker.start()
        inner = FunctionScorer(worker, reward.deadline)

        def scorer(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
            return inner([replace(one, metadata={**one.metadata, "told": told}) for one in prompts], completions)

        yield scorer
    finally:
        worker.close()
