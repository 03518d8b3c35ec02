"""The live view of a run on a terminal."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from klimb.tracking.base import Quiet
from klimb.tracking.console import SHOWN, event_line
from klimb.tracking.stages import brief, span, stages
from klimb.tracking.visible import visible

COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red", "bright_cyan", "bright_yellow", "bright_black")
SPARKS = "▁▂▃▄▅▆▇█"
HISTORY = 40


class Live(Quiet):
    """Progress, rate, time left, the metrics with their recent course, and where the time of a step goes."""

    def __init__(self, path: str, steps: int, out: IO[str]) -> None:
        self.path, self.steps, self.step, self.first = visible(path, lines=False), steps, 0, 0
        self.now: dict[str, float] = {}
        self.course: dict[str, deque[float]] = {}
        self.times: deque[float] = deque(maxlen=20)
        self.news: deque[str] = deque(maxlen=3)
        self.since, self.lock = time.monotonic(), threading.Lock()
        self.view = RichLive(console=Console(file=out), get_renderable=self.render, refresh_per_second=2)

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Puts the view on the terminal."""
        self.step = self.first = step
        self.view.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows a step."""
        with self.lock:  # the view is drawn by a thread of its own
            self.step, self.since, self.now = step, time.monotonic(), dict(metrics)
            for name in SHOWN.values():
                if name in metrics:
                    self.course.setdefault(name, deque(maxlen=HISTORY)).append(metrics[name])
            if "time/step" in metrics and step:
                self.times.append(metrics["time/step"])

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Shows an event among the last three."""
        with self.lock:
            self.news.append(event_line(kind, fields))

    def finish(self, report: Mapping[str, Any]) -> None:
        """Leaves the last state on the terminal."""
        self.close()

    def close(self) -> None:
        """Gives the terminal back."""
        self.view.stop()

    def render(self) -> RenderableType:
        """What stands on the terminal now."""
        with self.lock:
            parts: list[RenderableType] = [self._progress(), self._numbers(), self._stages()]
            news = list(self.news)
        return Group(*parts, *(Text(line, style="yellow", overflow="ellipsis", no_wrap=True) for line in news))

    def _progress(self) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        pace = sorted(self.times)[len(self.times) // 2] if self.times else None
        waiting = f"this step for {span(time.monotonic() - self.since)}" if self.step < self.steps else "done"
        words = [f"step {self.step}/{self.steps}", waiting]
        if pace:
            words.append(f"{span(pace)} a step")
        if pace and self.step < self.steps:
            words.append(f"{span(pace * (self.steps - self.step))} left")
        row.add_row(
            Text(self.path, style="bold", overflow="ellipsis", no_wrap=True),
            ProgressBar(total=max(self.steps, 1), completed=self.step, width=24),
            Text("  ".join(words)),
        )
        return row

    def _numbers(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for word, name in SHOWN.items():
            if course := self.course.get(name):
                table.add_row(Text(word, style="dim"), Text(brief(name, course[-1])), Text(spark(list(course)), "cyan"))
        if not self.course:
            table.add_row(Text("before the first step", style="dim"))
        return table

    def _stages(self) -> RenderableType:
        found = stages(self.now)
        whole = sum(found.values())
        if not whole:
            return Text()
        bar, legend = Text(), Text()
        for colour, (name, seconds) in zip(COLOURS, found.items(), strict=False):
            bar.append("█" * round(40 * seconds / whole), style=colour)
            legend.append(f"{name} {span(seconds)}  ", style=colour)
        return Group(bar, legend)


def spark(values: list[float]) -> str:
    """A course of values as a row of small bars."""
    low, high = min(values), max(values)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((value - low) * scale)] for value in values)
