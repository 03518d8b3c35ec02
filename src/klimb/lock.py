"""One owner: an advisory lock on a file that also says who holds it. The kernel frees it when the owner dies."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import weakref
from pathlib import Path
from typing import Any

from klimb.errors import RunError

_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Lock:
    """A lock file with the owner's process id and host in it; empty while nobody holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        weak = weakref.WeakMethod(self._forget)

        def forget_in_child() -> None:
            if forget := weak():
                forget()

        os.register_at_fork(after_in_child=forget_in_child)

    def take(self) -> str:
        """Takes the lock; returns who left it unreleased (was killed), or "". Raises RunError naming a living owner."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(
                f"a run in {self.path.parent}", error.strerror or str(error), "a folder you may write"
            ) from error
        try:
            owner = _lock(descriptor)
        except BlockingIOError:
            owner = _read(descriptor)
            os.close(descriptor)
            raise RunError(
                f"to write the run in {self.path.parent}",
                f"it is being written by {_name(owner)}",
                "wait for it, stop it, or name another run=DIR",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        _write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        self._descriptor = descriptor
        return _name(owner) if owner else ""

    def release(self) -> None:
        """Empties the file and frees it; does nothing where the lock is not held."""
        if self._descriptor is not None:
            _write(self._descriptor, "")
            self._forget()

    def _forget(self) -> None:
        """Closes this process's handle; in a forked child that leaves the parent's lock as it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> dict[str, Any]:
    """Locks, or raises BlockingIOError; returns what the former owner left in the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        if _alive(_read(descriptor)):
            raise BlockingIOError from error
    return _read(descriptor)


def _alive(owner: dict[str, Any]) -> bool:
    """Whether an owner may still live, asked only on file systems without locks; another host's owner may."""
    if not owner:
        return False
    if owner.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(owner.get("pid", 0)) or os.getpid(), 0)
    except (ProcessLookupError, ValueError, TypeError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _read(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode("utf-8"), 0)


def _name(owner: dict[str, Any]) -> str:
    return f"process {owner['pid']} on {owner.get('host', '?')}" if "pid" in owner else "a process that left no name"
