"""A first SIGTERM or Ctrl-C asks the run to save and stop; a second one stops it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopFlag:
    """Which signal asked to stop, if any did."""

    def __init__(self) -> None:
        self.signal: int | None = None


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Watches the signals while inside; in a thread that is not the main one, nothing is watched."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if flag.signal is not None:
            os._exit(128 + number)
        flag.signal = number

    before = {number: signal.signal(number, handle) for number in WATCHED}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
