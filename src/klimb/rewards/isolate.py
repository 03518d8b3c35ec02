"""A function in a process of its own: asked in frames of JSON over pipes, with a deadline, and killed if need be."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from klimb.errors import RewardError
from klimb.rewards.shepherd import descendants, end_all

LONGEST_ANSWER = 1 << 24
"""Bytes; a longer frame is not an answer."""
MOST_PROCESSES = 256
"""A worker that has started more is ended: a machine has only so many."""
ENDING = 3.0
"""Seconds that a shepherd may take to end what is below it."""
LOOK = 0.25
"""Seconds between looks at how many there are, while an answer is waited for."""
MARK = "KLIMB_WORKER"
"""The environment variable by which a worker's descendants are found, those included that left its process group."""


class WorkerTimedOut(Exception):
    """The function did not answer within its deadline; its process is gone."""


class WorkerDied(Exception):
    """The process ended, or said what is no answer; it is gone."""


class Worker:
    """One function of a user's file in a process that is started when it is needed, and again after it died."""

    def __init__(self, path: Path, name: str, *, memory_gb: float, start_s: float) -> None:
        self.path, self.name, self.shape = path.resolve(), name, ""
        self._memory, self._start_s = int(memory_gb * 2**30), start_s
        self._process: subprocess.Popen[bytes] | None = None
        self._ask = self._hear = -1
        self._count, self._mark = 0, secrets.token_hex(16)
        self._loaded = 0
        """The number of the request that loaded the function into this process."""

    def start(self) -> None:
        """Starts the process and loads the function. Raises RewardError where it cannot be used."""
        self.close()
        self._spawn()
        try:
            answer = self._exchange({"path": str(self.path), "name": self.name}, self._start_s)
        except WorkerTimedOut:
            self._refuse(f"it was not loaded within {self._start_s:g} s")
        except WorkerDied as error:
            self._refuse(str(error))
        self.shape, self._loaded = str(answer["shape"]), self._count

    def call(self, arguments: Mapping[str, Any], count: int, seed: int, deadline: float) -> dict[str, Any]:
        """The answer for `count` completions: `values`, or the `error` that was raised.

        A process that dies of a request after it answered others is started again and asked once more, for as long as
        is left of the deadline.
        Raises WorkerTimedOut after `deadline` seconds, WorkerDied, or RewardError where the function cannot be used.
        """
        if self._process is None or self._process.poll() is not None:
            self.start()
        request = {"arguments": arguments, "count": count, "seed": seed}
        fresh, began = self._count == self._loaded, time.monotonic()
        try:
            return self._exchange(request, deadline)
        except WorkerDied as error:
            if fresh:
                raise
            died, left = error, deadline - (time.monotonic() - began)
        self.start()  # what an earlier request left behind may have killed it: one that died alone died of itself
        try:
            return self._exchange(request, left)
        except WorkerTimedOut:
            raise died from None

    def close(self) -> None:
        """Ends the process and every descendant: its shepherd does, and where that cannot, this."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(OSError):
            process.terminate()
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            end_all(lambda: descendants(process.pid))
            process.kill()
            process.wait()
        os.close(self._ask)
        os.close(self._hear)
        end_marked(self._mark)

    def _spawn(self) -> None:
        theirs_in, self._ask = os.pipe()
        self._hear, theirs_out = os.pipe()
        os.set_blocking(self._ask, False)
        os.set_blocking(self._hear, False)
        words = [str(theirs_in), str(theirs_out), str(os.getpid()), str(self._memory)]
        program = Path(__file__).with_name("shepherd.py")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(program), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
                env=os.environ | {MARK: self._mark, "PYTHONHASHSEED": "0"},  # sets in one order, always
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)

    def _exchange(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Sends a request and gives its answer; after any failure the process is gone."""
        self._count += 1
        until = time.monotonic() + seconds
        try:
            body = json.dumps(request | {"id": self._count}, default=str).encode("ascii")
            self._send(struct.pack(">I", len(body)) + body, until)
            answer = self._receive(until)
        except (WorkerTimedOut, WorkerDied):
            self.close()
            raise
        if "fatal" in answer:
            self._refuse(str(answer["fatal"]))
        return answer

    def _send(self, data: bytes, until: float) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(self._ask, select.POLLOUT, until)
            try:
                rest = rest[os.write(self._ask, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise WorkerDied(self._ending()) from error

    def _receive(self, until: float) -> dict[str, Any]:
        size = struct.unpack(">I", self._exactly(4, until))[0]
        if size > LONGEST_ANSWER:
            raise WorkerDied("it wrote into the channel that carries its answers")
        try:
            answer = json.loads(self._exactly(size, until))
        except ValueError as error:
            raise WorkerDied("it wrote into the channel that carries its answers") from error
        number = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(number, int) or number > self._count:
            raise WorkerDied("it wrote into the channel that carries its answers")
        return answer if number == self._count else self._receive(until)  # a copy of it had answered an earlier one

    def _exactly(self, size: int, until: float) -> bytes:
        parts: list[bytes] = []
        while size:
            self._wait(self._hear, select.POLLIN, until)
            try:
                part = os.read(self._hear, size)
            except BlockingIOError:
                continue
            if not part:
                raise WorkerDied(self._ending())
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, channel: int, event: int, until: float) -> None:
        poll = select.poll()
        poll.register(channel, event)
        while (left := until - time.monotonic()) > 0:
            if poll.poll(min(left, LOOK) * 1000):
                return
            if self._process is not None and len(descendants(self._process.pid)) > MOST_PROCESSES:
                raise WorkerDied(f"it started more than {MOST_PROCESSES} processes")
        raise WorkerTimedOut

    def _ending(self) -> str:
        """How the process ended, once its channel is closed."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        code = self._process.returncode
        if code is None:
            return "it closed the channel that carries its answers"
        return (
            f"its process was killed by {signal.Signals(-code).name}" if code < 0 else f"its process exited with {code}"
        )

    def _refuse(self, why: str) -> None:
        self.close()
        raise RewardError(f"the reward function {self.name!r} in {self.path}", why, "mend the file") from None


def end_marked(mark: str) -> None:
    """Kills every process that carries a mark in its environment, if the shepherd was killed (Linux)."""
    wanted = f"{MARK}={mark}".encode("ascii")

    def found() -> set[int]:
        marked = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes():
                    marked.add(int(entry.name))
        return marked

    end_all(found)
