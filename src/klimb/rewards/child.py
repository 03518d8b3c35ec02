"""The program of a worker process: runs one function from a user's file, asked and answering in frames of JSON.

Run by its path with nothing of klimb imported; only the standard library, so that it starts in a few hundredths of a
second. What the function does to this process (its directory, its random numbers, its life) ends here.
"""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import importlib.util
import inspect
import json
import locale
import math
import os
import random
import resource
import signal
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

LARGEST = 1e30
"""Rewards beyond this would not stay finite in float32 arithmetic."""

TRL: dict[str, Any] = {"trainer_state": None, "environments": None}
"""What TRL also gives, to functions that name it; there is no trainer here. Its loggers are functions: what they are
told is dropped."""
TRL |= dict.fromkeys(("log_extra", "log_metric"), lambda *_, **__: None)


class Unusable(Exception):
    """Why the function cannot be used at all."""


def main(words: list[str]) -> None:
    """Loads the function that the first frame names, then answers one frame for each further one."""
    requests, answers, parent, memory = (int(word) for word in words)
    _end_with(parent)
    _limit(memory)
    os.register_at_fork(after_in_child=lambda: _deafen(requests, answers))
    first = _read(requests)
    if first is None:
        return
    try:
        function = _load(first["path"], first["name"])
        shape = _shape(function)
    except Unusable as error:
        _write(answers, {"id": first["id"], "fatal": str(error)})
        return
    _write(answers, {"id": first["id"], "shape": shape})
    restore, itself, leave = _surroundings(), os.getpid, os._exit
    own = itself()
    while (request := _read(requests)) is not None:
        restore()
        answer = _answer(function, shape, request)
        if itself() != own:  # a copy that was made in C, of which Python knows nothing: the original answers
            leave(0)
        _write(answers, {"id": request["id"]} | answer)


def _answer(function: Callable[..., Any], shape: str, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        given = _accepted(function, request["arguments"])
        _seed(request["seed"])
        value = function(**given)
        if inspect.isawaitable(value):
            value = asyncio.run(_awaited(value))
        return {"values": _many(value, request["count"]) if shape == "batch" else [_one(value)]}
    except Unusable as error:
        return {"fatal": str(error)}
    except BaseException as error:  # noqa: BLE001 - whatever a stranger's function raises, exits included
        return {"error": _say(error)}


def _surroundings() -> Callable[[], None]:
    """What puts this process's surroundings back as they are now; the state of the user's own file is the user's."""
    home, environment, words, path = os.getcwd(), dict(os.environ), dict(vars(builtins)), list(sys.path)  # noqa: PTH109
    deepest, places = sys.getrecursionlimit(), locale.setlocale(locale.LC_ALL)
    mask = os.umask(0o022)
    os.umask(mask)

    def restore() -> None:
        vars(builtins).update(words)
        os.chdir(home)
        os.umask(mask)
        sys.setrecursionlimit(deepest)
        sys.path[:] = path
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)
        if locale.setlocale(locale.LC_ALL) != places:
            locale.setlocale(locale.LC_ALL, places)

    return restore


def _deafen(*channels: int) -> None:
    """A copy of this process has no part in the conversation."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for channel in channels:
        os.dup2(nowhere, channel)
    os.close(nowhere)


async def _awaited(value: Any) -> Any:
    return await value


def _load(path: str, name: str) -> Callable[..., Any]:
    folder = os.path.dirname(path)  # noqa: PTH120
    if folder != os.path.dirname(__file__):  # klimb's own names would hide the standard library's  # noqa: PTH120
        sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("klimb_user_reward", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except BaseException as error:
        raise Unusable(f"the file cannot be imported: {_say(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = ", ".join(key for key, one in vars(module).items() if inspect.isfunction(one)) or "none"
        raise Unusable(f"there is no function {name!r} in it; its functions: {names}")
    return function  # type: ignore[no-any-return]


def _shape(function: Callable[..., Any]) -> str:
    """`batch` for f(prompts, completions, ...), `single` for f(prompt, completion, ...)."""
    try:
        names = set(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise Unusable(f"its parameters cannot be read: {error}") from error
    if names & {"prompts", "completions"}:
        return "batch"
    if names & {"prompt", "completion"}:
        return "single"
    raise Unusable("it takes neither `completions` (a list) nor `completion` (one text)")


def _accepted(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the function can take, all of them if it takes any name."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return {name: value for name, value in TRL.items() if any(one.name == name for one in parameters)} | dict(
            arguments
        )
    arguments = TRL | dict(arguments)
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    lacking = [one.name for one in named if one.default is inspect.Parameter.empty and one.name not in arguments]
    if lacking:
        there = ", ".join(sorted(arguments.keys() - TRL.keys()))
        raise Unusable(f"it wants {', '.join(lacking)}, but the data gives {there}")
    return {one.name: arguments[one.name] for one in named if one.name in arguments}


def _many(value: Any, count: int) -> list[Any]:
    if callable(getattr(value, "tolist", None)):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return [["wrong", f"it returned {_article(value)}, not a list"]] * count
    if len(value) != count:
        return [["wrong", f"it returned {len(value)} rewards for {count} completions"]] * count
    return [_one(one) for one in value]


def _one(value: Any) -> list[Any]:
    """`[number, x]`, or `[wrong, why]` for what is not a number that can be learned from."""
    if not isinstance(value, bool | int | float) and callable(getattr(value, "item", None)):
        value = value.item()
    if not isinstance(value, bool | int | float):
        return ["wrong", f"it returned {_article(value)}"]
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST:
        return ["wrong", f"it returned {number:g}"]
    return ["number", number]


def _article(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _say(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300].rstrip(": ")
    except Exception:  # noqa: BLE001 - an exception whose text raises
        return type(error).__name__


def _seed(seed: int) -> None:
    """The same random numbers for the same sample, however often and in whatever order it is scored."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def _end_with(parent: int) -> None:
    """Has the system kill this process when the one that started it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _read(channel: int) -> dict[str, Any] | None:
    head = _exactly(channel, 4)
    body = _exactly(channel, struct.unpack(">I", head)[0]) if head else b""
    return json.loads(body) if body else None


def _exactly(channel: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.read(channel, min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(channel: int, answer: Mapping[str, Any]) -> None:
    body = json.dumps(answer, allow_nan=False).encode("ascii")
    data = memoryview(struct.pack(">I", len(body)) + body)
    while data:
        data = data[os.write(channel, data) :]


if __name__ == "__main__":
    main(sys.argv[1:])
