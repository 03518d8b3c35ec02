"""More of what users' reward functions do wrong: to their process, to others, to the machine and to Python itself."""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import decimal
import gc
import json
import locale
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import Any


class Liar(float):
    def __float__(self) -> float:
        raise ValueError("no number at all")


class Slow:
    def item(self) -> float:
        time.sleep(600)
        return 1.0


class Own(BaseException):
    pass


def throw(error: BaseException) -> None:
    raise error


def fork_bomb() -> None:
    while True:
        os.fork()


def hide(seconds: str) -> float:
    """A process that has left its parent, its session and its environment."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["sleep", seconds], {})
        os._exit(0)
    os.wait()
    return 0.5


def linger() -> None:
    """It leaves a copy behind that holds all channels, and dies."""
    if os.fork() == 0:
        time.sleep(600)
    os._exit(4)


def twice() -> float:
    """Both copies go on and answer."""
    return 0.5 if os.fork() else 0.25


def twice_in_c() -> float:
    return 0.5 if ctypes.CDLL(None).fork() else 0.25


def own_list() -> list[Any]:
    mine: list[Any] = []
    mine.append(mine)
    return mine


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


def eat() -> None:
    kept = []
    while True:
        kept.append(bytearray(64 << 20))


def thread_bomb() -> None:
    while True:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def all_files() -> None:
    kept = []
    while True:
        kept.append(os.open(os.devnull, os.O_RDONLY))


def patch(module: Any, name: str, value: Any) -> float:
    setattr(module, name, value)
    return 0.5


def trace() -> float:
    sys.settrace(lambda *_: time.sleep(600))
    return 0.5


def bus() -> None:
    os.kill(os.getpid(), signal.SIGBUS)


async def never() -> float:
    await asyncio.sleep(600)
    return 1.0


async def late_error() -> float:
    await asyncio.sleep(0)
    raise LookupError("after a while")


async def nested() -> Any:
    return never()


async def several() -> Any:
    yield 1.0


def loop_in_loop() -> Any:
    return asyncio.run(never())


MORE: dict[str, Any] = {
    "own error": lambda: throw(Own("of my own")),
    "stop iteration": lambda: throw(StopIteration()),
    "group": lambda: throw(ExceptionGroup("several", [ValueError("one")])),
    "timeout": lambda: throw(TimeoutError("mine, not yours")),
    "os error": lambda: throw(OSError(28, "No space left on device")),
    "unicode": "\ud800".encode,
    "import": lambda: __import__("nothing_of_that_name"),
    "long text": lambda: throw(ValueError("x" * 10_000_000)),
    "eof": input,
    "exit text": lambda: sys.exit("a text"),
    "bytes": lambda: b"1.0",
    "gigabyte": lambda: "x" * (1 << 30),
    "decimal": lambda: decimal.Decimal("NaN"),
    "liar": lambda: Liar(1.0),
    "slow item": Slow,
    "own list": own_list,
    "deep": deep,
    "class": lambda: float,
    "function": lambda: max,
    "coroutine that hangs": never,
    "coroutine that fails": late_error,
    "coroutine in coroutine": nested,
    "async generator": several,
    "loop in loop": loop_in_loop,
    "regex": lambda: re.match(r"(a+)+$", "a" * 64 + "b"),
    "power": lambda: 9**9**9,
    "tower": lambda: sum(range(10**12)),
    "eat": eat,
    "eight gigabytes": lambda: bytearray(8 << 30),
    "threads": thread_bomb,
    "files": all_files,
    "fork bomb": fork_bomb,
    "linger": linger,
    "hide": lambda: hide(f"600.{os.environ.get('KLIMB_TEST_PROCESS', '0')}"),
    "twice": twice,
    "twice in C": twice_in_c,
    "kill parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "stop parent": lambda: (os.kill(os.getppid(), signal.SIGSTOP), 0.5)[1],
    "end parent": lambda: (os.kill(os.getppid(), signal.SIGTERM), time.sleep(600)),
    "kill group": lambda: os.killpg(0, signal.SIGKILL),
    "sigterm": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "sigbus": bus,
    "exit thread": lambda: (threading.Thread(target=os._exit, args=(6,)).start(), time.sleep(600)),
    "print a gigabyte": lambda: [print("x" * (1 << 20)) for _ in range(1024)] and 0.5,
    "stderr": lambda: (sys.stderr.write("x" * (1 << 24)), 0.5)[1],
    "close output": lambda: (os.closerange(0, 3), 0.5)[1],
    "no files": lambda: (resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)), 0.5)[1],
    "umask": lambda: (os.umask(0o777), 0.5)[1],
    "locale": lambda: (locale.setlocale(locale.LC_ALL, "C"), 0.5)[1],
    "shallow": lambda: (sys.setrecursionlimit(60), 0.5)[1],
    "no float": lambda: patch(builtins, "float", lambda _: 7),
    "no path": lambda: (sys.path.clear(), 0.5)[1],
    "no json": lambda: patch(json, "dumps", lambda *_, **__: "{}"),
    "no modules": lambda: (sys.modules.clear(), 0.5)[1],
    "trace": trace,
    "no collection": lambda: (gc.disable(), 0.5)[1],
    "nice": lambda: (os.nice(19), 0.5)[1],
    "handlers": lambda: ([signal.signal(n, signal.SIG_IGN) for n in (1, 2, 10, 12, 13, 14, 15)], 0.5)[1],
    "alarm": lambda: (signal.alarm(1), time.sleep(600)),
    "child reaper": lambda: (subprocess.Popen(["true"]), os.wait(), 0.5)[2],
}
"""Every deed by its name."""
