"""One run in a sandbox: its input is fed, its output is read up to a limit, and at the end nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from klimb.rewards.isolate import MARK, end_marked
from klimb.rewards.sandbox.box import Box
from klimb.rewards.sandbox.launch import ALIVE
from klimb.rewards.sandbox.seccomp import filter_for
from klimb.rewards.shepherd import descendants

LONGEST_ERROR = 1 << 14
LOOK = 0.1
"""Seconds between looks at how many processes there are, in the tier where the kernel does not count them for root."""
CLEARED = 1.0
"""Seconds that the kernel may take to end a sandbox."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `stood` is whether the sandbox came to be at all; `why` is what was too much."""

    status: int
    out: bytes
    said: str
    why: str
    stood: bool
    late: bool
    seconds: float


def run(box: Box, kind: str, source: str, given: bytes = b"", calls: str = "") -> Ended:
    """Runs a text: as a `program` that reads `given`, or as a module of which `values` of `calls` are asked."""
    texts = [source.encode("utf-8", "surrogatepass"), calls.encode("utf-8", "surrogatepass")]
    mark = secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        folder = "/"
        if box.tier == "limits":
            folder = tempfile.mkdtemp(prefix="klimb-code-")
            stack.callback(_remove, folder)
        filtered = _filter(stack) if box.tier == "namespaces" else None
        process = subprocess.Popen(
            box.command(kind, len(texts[0]), len(texts[1]), filtered),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", os.defpath)} | ({MARK: mark, "HOME": folder} if folder != "/" else {}),
            start_new_session=True,
            pass_fds=() if filtered is None else (filtered,),
        )
        talk = _Talk(process, b"".join(texts) + given, box)
        try:
            talk.go()
        finally:
            _end(process, mark, box)
        talk.drain()
    return talk.ended()


class _Talk:
    """The three pipes of one process."""

    def __init__(self, process: subprocess.Popen[bytes], given: bytes, box: Box) -> None:
        self._process, self._box, self._rest, self.why = process, box, memoryview(given), ""
        self._late, self._began, self._took = False, time.monotonic(), 0.0
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._into, self._texts = process.stdin, {process.stdout: bytearray(), process.stderr: bytearray()}
        self._open: dict[int, Any] = {one.fileno(): one for one in (process.stdin, process.stdout, process.stderr)}
        for one in self._open.values():
            os.set_blocking(one.fileno(), False)

    def go(self) -> None:
        """Until it has ended or something is too much."""
        until = self._began + self._box.limits.seconds
        while not self.why and self._process.poll() is None:
            left = until - time.monotonic()
            if left <= 0:
                self._late, self.why = True, "it ran out of time"
            self._once(min(max(left, 0.0), LOOK))
            if self._box.tier == "limits" and len(descendants(self._process.pid)) > self._box.limits.processes:
                self.why = f"it started more than {self._box.limits.processes} processes"
        self._took = time.monotonic() - self._began

    def drain(self) -> None:
        """What is still in the pipes once nobody writes any more."""
        until = time.monotonic() + CLEARED
        while not self.why and any(one in self._texts for one in self._open.values()) and time.monotonic() < until:
            if not self._once(0.01):
                break
        for one in (self._into, *self._texts):
            one.close()

    def _once(self, seconds: float) -> bool:
        poll = select.poll()
        for number, one in self._open.items():
            poll.register(number, select.POLLOUT if one is self._into else select.POLLIN)
        if not self._open:
            time.sleep(min(seconds, 0.005))
        ready = poll.poll(seconds * 1000) if self._open else []
        for number, _ in ready:
            self._serve(number)
        return bool(ready)

    def _serve(self, number: int) -> None:
        one = self._open[number]
        try:
            if one is self._into:
                self._rest = self._rest[os.write(number, self._rest[: 1 << 16]) :]
                if not self._rest:
                    self._shut(number)
                return
            part = os.read(number, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self._shut(number)
            return
        text = self._texts[one]
        if not part:
            self._shut(number)
        elif one is self._process.stderr:
            text += part
            del text[:-LONGEST_ERROR]
        elif len(text) + len(part) > self._box.limits.output:
            self.why = f"it printed more than {self._box.limits.output} bytes"
        else:
            text += part

    def _shut(self, number: int) -> None:
        self._open.pop(number).close()

    def ended(self) -> Ended:
        """What came of it."""
        out, errors = (bytes(text) for text in self._texts.values())
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        said = "".join(letter if letter.isprintable() else " " for letter in (lines or [""])[-1])[:200]
        return Ended(
            self._process.returncode, out[len(ALIVE) :], said, self.why, out.startswith(ALIVE), self._late, self._took
        )


def _filter(stack: contextlib.ExitStack) -> int | None:
    """A descriptor from which the filter of system calls is read."""
    program = filter_for()
    if not program:
        return None
    hear, tell = os.pipe()
    stack.callback(os.close, hear)
    os.write(tell, program)
    os.close(tell)
    return hear


def _end(process: subprocess.Popen[bytes], mark: str, box: Box) -> None:
    """Ends whatever is left of a run: a namespace ends with its first process; else all that can be found."""
    below = descendants(process.pid)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if box.tier == "limits":
        end_marked(mark)
    until = time.monotonic() + CLEARED
    while any(_lives(pid) for pid in below) and time.monotonic() < until:
        time.sleep(0.002)


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return False


def _remove(folder: str) -> None:
    """Removes a folder whatever was made of its permissions; links are not followed."""
    for root, folders, _ in os.walk(folder):
        for path in (Path(root) / name for name in folders):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
