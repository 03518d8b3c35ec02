"""Which tier this machine gives: each is tried out before it is believed; below the wanted one nothing starts."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from klimb.errors import RewardError
from klimb.rewards.sandbox.box import Box, Limits, Tier
from klimb.rewards.sandbox.run import run


@contextmanager
def open_box(wanted: Tier, limits: Limits) -> Iterator[Box]:
    """The strongest tier that works here, tried out. Raises RewardError where it is below `wanted`."""
    with contextlib.ExitStack() as stack:
        why: list[str] = []
        for box in _candidates(limits, stack):
            if fault := _tried(box):
                why.append(f"{box.how}: {fault}")
            elif wanted == "namespaces" and box.tier == "limits":
                break
            else:
                yield box
                return
        asked = f"a sandbox of tier {wanted} for code under test"
        cure = "install bubblewrap 0.8 or newer where user namespaces are allowed; or `tier: limits` for code you trust"
        raise RewardError(asked, "; ".join(why) or "no bwrap on this machine", cure)


def _candidates(limits: Limits, stack: contextlib.ExitStack) -> Iterator[Box]:
    if sys.platform == "linux" and shutil.which("bwrap"):
        plain = Box("namespaces", "bubblewrap", limits)
        if os.geteuid() == 0 and shutil.which("unshare") and shutil.which("setpriv"):
            shown = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="klimb-python-", dir="/tmp")))
            shown.chmod(0o755)
            yield replace(plain, how="bubblewrap as nobody", shown=shown)
        yield plain
    yield Box("limits", "resource limits and a process group", limits)


TRIAL = """
import os, socket
assert not os.path.exists("/etc/passwd") and not os.path.exists("/home"), "files are seen"
assert len([one for one in os.listdir("/proc") if one.isdigit()]) < 5, "processes are seen"
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except OSError as error:
    pass
assert len(socket.if_nameindex()) <= 1, "networks are seen"
started = 0
try:
    for started in range(LIMIT + 4):
        if not os.fork():
            os.read(0, 1) or os._exit(0)
            __import__("time").sleep(9)
            os._exit(0)
    raise SystemExit("the number of processes is not limited")
except OSError:
    print("holds", end="")
"""


def _tried(box: Box) -> str:
    """Why a tier does not hold here; empty where it does."""
    source = TRIAL.replace("LIMIT", str(box.limits.processes)) if box.tier == "namespaces" else 'print("holds", end="")'
    ended = run(replace(box, limits=replace(box.limits, seconds=20.0)), "program", source, b"-" * 64)
    return "" if ended.out == b"holds" else f"exit {ended.status}: {ended.said or 'it did not start'}"
