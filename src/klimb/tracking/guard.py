"""A tracker can never stop or slow a run: what it raises is counted and told once, and it has a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from klimb.redact import redact_text
from klimb.tracking.base import Sink

PATIENCE = 5
"""After so many failures in a row a tracker is left alone for the rest of the run."""
WAITING = 1000
"""How many calls may wait for a slow tracker; further ones are dropped and counted."""

Tell = Callable[..., None]
log = logging.getLogger("klimb.tracking")


class Guard:
    """Stands before one tracker. `open_sink` makes it, on the guard's thread; `tell(kind, **fields)` is for events."""

    def __init__(self, name: str, open_sink: Callable[[], Sink], tell: Tell, *, threaded: bool = True) -> None:
        self.name, self._open, self._tell = name, open_sink, tell
        self._sink: Sink | None = None
        self._start: tuple[Any, ...] | None = None
        self._row, self._failed, self._dropped = 0, 0, 0
        self._calls: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name=f"klimb-{name}", daemon=True) if threaded else None
        if self._thread:
            self._thread.start()

    @property
    def off(self) -> bool:
        """Whether the tracker is left alone for the rest of the run."""
        return self._row >= PATIENCE

    def call(self, method: str, *arguments: Any) -> None:
        """Has the tracker do something, soon. Never raises, never waits."""
        if self._thread is None:
            self._do(method, arguments)
            return
        try:
            self._calls.put_nowait((method, arguments))
        except queue.Full:
            self._dropped += 1

    def close(self, wait: float) -> None:
        """Waits at most `wait` seconds for what is left to do, then says what was lost, if anything was."""
        if self._thread is not None:
            try:
                self._calls.put(None, timeout=wait)
                self._thread.join(wait)
            except queue.Full:
                pass
            lost = self._dropped + (self._calls.qsize() if self._thread.is_alive() else 0)
            if lost or self._thread.is_alive():
                self._say("tracker_slow", lost=lost, why=f"did not finish within {wait:g} s")
        if self._failed > 1:
            self._say("tracker_failures", count=self._failed)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            self._do(*item)

    def _do(self, method: str, arguments: tuple[Any, ...]) -> None:
        if self.off:
            return
        try:
            self._sink = self._sink or self._open()
            if method == "start":
                self._start = arguments
            if self._start is not None:  # a start that failed is tried again
                self._sink.start(*self._start)
                self._start = None
            if method != "start":
                getattr(self._sink, method)(*arguments)
            self._row = 0
        except (Exception, SystemExit) as error:  # noqa: BLE001 whatever a tracker does, the run goes on
            self._failure(method, error)

    def _failure(self, method: str, error: BaseException) -> None:
        missing = isinstance(error, ImportError)  # trying again will not install it
        self._failed, self._row = self._failed + 1, PATIENCE if missing else self._row + 1
        why = redact_text(f"{type(error).__name__}: {error}"[:500])
        if self._failed == 1:
            cure = f"pip install 'klimb[{self.name}]'" if missing else ""
            self._say("tracker_failed", during=method, why=why, cure=cure, then="the run goes on")
        if self.off and not missing:
            self._say("tracker_off", why=f"{PATIENCE} failures in a row, the last: {why}")

    def _say(self, kind: str, **fields: Any) -> None:
        try:
            self._tell(kind, tracker=self.name, **fields)
        except Exception:
            log.exception("the failure of tracker %s could not be written down", self.name)
