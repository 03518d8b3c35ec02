"""The program inside the sandbox: limits itself, then runs the text that it is sent. Nothing here decides a verdict.

Its text is given to `python -c`; it imports nothing of klimb. Whatever runs here may change all of it: what it reports
are outputs and values, and those are compared elsewhere, by a process that never sees the code under test.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import runpy
import sys
from collections.abc import Callable
from typing import Any

ALIVE = b"\x06"
"""The first byte written: the sandbox stands, and no code under test has run yet."""
DEEPEST = 50


def main(words: list[str]) -> None:
    """`kind source calls cpu memory file processes`: sizes in bytes; the texts come first on the standard input."""
    kind, sizes = words[0], [int(word) for word in words[1:]]
    _limit(*sizes[2:])
    source, calls = _exactly(sizes[0]), _exactly(sizes[1])
    os.write(1, ALIVE)
    for name, text in (("main.py", source), ("calls.py", calls)):
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(text)
    if kind == "program":
        sys.argv = ["main.py"]
        runpy.run_path("main.py", run_name="__main__")
    else:
        _values(len(calls))


def _values(calls: int) -> None:
    """One line of JSON for each call: its value in plain form, or that it raised; none where the module fails."""
    channel = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nowhere, standard)
    names = runpy.run_path("main.py", run_name="main")
    if not calls:
        os._exit(0)
    for call in runpy.run_path("calls.py", init_globals=names)["CALLS"]:
        answer: list[Any]
        try:
            answer = ["value", plain(call(), 0)]
        except BaseException as error:  # noqa: BLE001 - exits too: a call that does not give a value
            answer = ["raised", type(error).__name__[:80]]
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(channel, data) :]
    os._exit(0)


def plain(value: Any, depth: int) -> list[Any]:
    """A value as JSON that keeps its type. Raises TypeError for what is not plain data."""
    if depth > DEEPEST:
        raise TypeError("nested too deeply")
    if value is None or isinstance(value, bool):
        return ["is", value]
    if isinstance(value, dict):
        return ["dict", [[plain(key, depth + 1), plain(one, depth + 1)] for key, one in dict(value).items()]]
    for many, name in ((list, "list"), (tuple, "tuple"), (frozenset, "frozenset"), (set, "set")):
        if isinstance(value, many):
            return [name, [plain(one, depth + 1) for one in value]]
    for kind, name, own in SINGLE:
        if isinstance(value, kind):
            return [name, own(value)]
    raise TypeError(type(value).__name__)


SINGLE: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (int, "int", lambda value: hex(int.__index__(value))),
    (float, "float", float.__float__),
    (complex, "complex", complex.__repr__),
    (str, "str", str.__str__),
    ((bytes, bytearray), "bytes", lambda value: bytes(value).hex()),
)
"""By kind: its name, and how it is written whatever a class of its own says."""


def _limit(cpu: int, memory: int, file: int, processes: int) -> None:
    most = {"CPU": cpu, "AS": memory, "FSIZE": file, "NPROC": processes, "NOFILE": 32, "CORE": 0, "MEMLOCK": 0}
    for name, value in (most | {"MSGQUEUE": 0}).items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            with contextlib.suppress(ValueError):
                resource.setrlimit(kind, (value, value))


def _exactly(size: int) -> bytes:
    parts: list[bytes] = []
    while size and (part := os.read(0, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main(sys.argv[1:])
