"""What users' reward functions do wrong. Loaded by worker processes; the completion's text names the deed."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hostile_more import MORE  # type: ignore[import-not-found]  # beside this file, as a user's own helpers would be

calls = 0


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def recurse() -> float:
    return recurse()


def forever() -> None:
    while True:
        pass


def endless() -> Any:
    while True:
        yield 1.0


def stop_all() -> None:
    for child in (1, 2):
        subprocess.Popen(["sleep", "600"], start_new_session=child == 2)
    forever()


def change_the_world() -> float:
    os.chdir("/")
    random.seed(1)
    os.environ.clear()
    return 0.5


def daemon() -> float:
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    return 0.5


def thread() -> float:
    threading.Thread(target=forever, daemon=True).start()
    return 0.5


def throw(error: BaseException) -> None:
    raise error


def scribble() -> float:
    for channel in range(3, 256):
        with contextlib.suppress(OSError):
            os.write(channel, b"x" * 64)
    return 0.5


def spoil() -> float:
    builtins.len = None  # type: ignore[assignment]
    return 0.5


DEEDS: dict[str, Any] = {
    "raise": lambda: 1 / 0,
    "assert": lambda: throw(AssertionError("expected")),
    "key": lambda: {}["lost"],
    "memory": lambda: throw(MemoryError()),
    "allocate": lambda: bytearray(1 << 40),
    "recurse": recurse,
    "unsayable": lambda: throw(Unsayable()),
    "sys.exit": lambda: sys.exit(0),
    "interrupt": lambda: throw(KeyboardInterrupt()),
    "generator exit": lambda: throw(GeneratorExit()),
    "cancelled": lambda: throw(asyncio.CancelledError()),
    "None": lambda: None,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "1e308": lambda: 1e308,
    "huge": lambda: 10**400,
    "text": lambda: "1.0",
    "list": lambda: [1.0, 2.0],
    "dict": lambda: {"reward": 1.0},
    "complex": lambda: 1j,
    "object": object,
    "endless": endless,
    "os._exit": lambda: os._exit(3),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "close": lambda: os.closerange(3, 256),
    "scribble": scribble,
    "spoil": spoil,
    "sleep": lambda: time.sleep(600),
    "busy": forever,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "children": stop_all,
    "deaf": lambda: (signal.signal(signal.SIGTERM, signal.SIG_IGN), forever()),
    "daemon": daemon,
    "thread": thread,
    "world": change_the_world,
    "print": lambda: [print("x" * 1_000_000) for _ in range(20)] and 0.5,
    "true": lambda: True,
    "random": random.random,
    "directory": lambda: float(Path.cwd() == Path("/")),
    **MORE,
}


def single(prompt: str, completion: str, answer: str | None) -> Any:
    deed = DEEDS.get(completion)
    return float(completion == answer) if deed is None else deed()


def deed(deed: str, completion: str, answer: str) -> Any:
    return single("", deed if deed in DEEDS else completion, answer)


def meek(deed: str, completion: str, answer: str) -> Any:
    return None if deed in DEEDS else single("", completion, answer)


def batch(prompts: list[str], completions: list[str], answer: list[str], **columns: Any) -> Any:
    return [single(p, c, a) for p, c, a in zip(prompts, completions, answer, strict=True)]


async def slowly(completion: str, answer: str) -> Any:
    await asyncio.sleep(0.01)
    return single("", completion, answer)


def too_few(completions: list[str]) -> list[float]:
    return [1.0] * (len(completions) - 1)


def generator(completions: list[str]) -> Any:
    return (1.0 for _ in completions)


def counted(completion: str) -> int:
    global calls
    calls += 1
    return calls


def trl(prompts: Any, completions: Any, completion_ids: Any, level: list[int], **more: Any) -> list[float]:
    assert prompts[0][-1] == {"role": "user", "content": "5 + 7 ="}
    assert completions[0][0]["role"] == "assistant"
    assert sorted(more) == ["answer"]
    return [len(ids) + n / 10 for ids, n in zip(completion_ids, level, strict=True)]


def wants_more(completion: str, rubric: str) -> float:
    return 1.0


def late(completion: str) -> float:
    if completion == "die late":
        time.sleep(0.9)
        os._exit(9)
    return 1.0


def nothing_known(text: str) -> float:
    return 1.0


number = 5
