"""The program that stands between klimb and a worker: whatever the worker starts ends with it, wherever it hides.

Every orphan below it becomes its child (a subreaper), so that a double fork, a new session or an emptied environment
lose nothing. It ends as the worker ended. Only the standard library is imported: it starts in hundredths of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 2.0
"""Seconds for which processes that do not end are killed again."""


class _Told(Exception):
    """Klimb wants it to end, or is gone."""


def main(words: list[str]) -> None:
    """`requests answers parent memory`: runs `child.py` in a process of its own session, and waits for its end."""
    _set_up(int(words[2]))
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.setsid()
        sys.argv = ["child.py", words[0], words[1], str(os.getppid()), words[3]]
        runpy.run_path(str(Path(__file__).resolve().with_name("child.py")), run_name="__main__")
        os._exit(0)
    for channel in words[:2]:
        os.close(int(channel))
    status = 0
    with contextlib.suppress(_Told):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        status = _end_of(child)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_all(lambda: descendants(os.getpid()))
    if os.WIFSIGNALED(status):
        end = os.WTERMSIG(status)
        if end not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(end, signal.SIG_DFL)
        os.kill(os.getpid(), end)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def descendants(root: int) -> set[int]:
    """The living processes below `root`, without it."""
    below: dict[int, list[int]] = {}
    for pid, parent in _parents():
        below.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for pid in below.get(waiting.pop(), ()):
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def end_all(found: Callable[[], set[int]]) -> None:
    """Kills what `found` finds until it finds nothing; first all are stopped, so that none can start another."""
    until = time.monotonic() + PATIENCE
    while (alive := found()) and time.monotonic() < until:
        for kind in (signal.SIGSTOP, signal.SIGKILL):
            for pid in alive:
                with contextlib.suppress(OSError):
                    os.kill(pid, kind)
        with contextlib.suppress(ChildProcessError):
            while os.getpid() == _ME and os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


_ME = -1
"""This process where it is the shepherd, whose children nobody else waits for."""


def _set_up(parent: int) -> None:
    global _ME  # noqa: PLW0603 the one fact about this process
    _ME = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, _tell)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    if os.getppid() != parent:
        os._exit(1)


def _tell(*_: object) -> None:
    raise _Told


def _end_of(child: int) -> int:
    """The status with which the child ends; orphans that come here are reaped meanwhile."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def _parents() -> list[tuple[int, int]]:
    """Every process that is not yet dead, with its parent."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if state not in (b"Z", b"X"):
                found.append((int(entry.name), int(parent)))
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
