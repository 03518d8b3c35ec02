"""Where the time of a step goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time inside under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """`time/<stage>` for each stage and `time/step` for everything since the last reading; starts again."""
        now = time.perf_counter()
        times = {f"time/{name}": seconds for name, seconds in self.seconds.items()}
        times["time/step"] = now - self.started
        self.seconds, self.started = {}, now
        return times
