"""A sandbox of one tier: what a run in it may take, and the command that starts Python there."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Tier = Literal["namespaces", "limits"]
TMP = "/tmp"  # noqa: S108 - inside the sandbox, its own
LAUNCH = Path(__file__).with_name("launch.py").read_text("utf-8")
BIND = 'mount --bind "$0" "$1" && shift && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"'
"""As root: shows Python's folder where anybody can read it, in a mount namespace of its own, and is root no more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may take."""

    seconds: float = 4.0
    memory: int = 1 << 29
    """Bytes of address space, for each process."""
    disk: int = 16 << 20
    """Bytes of its private /tmp, and of its largest file."""
    processes: int = 4
    """Processes and threads at once."""
    output: int = 1 << 20
    """Bytes that it may print."""


@dataclass(frozen=True, slots=True)
class Box:
    """One tier of this machine, ready for runs; `how` names what makes it."""

    tier: Tier
    how: str
    limits: Limits
    python: Path = field(default_factory=lambda: Path(os.path.realpath(sys.executable)))
    prefix: Path = field(default_factory=lambda: Path(sys.base_prefix).resolve())
    shown: Path | None = None
    """Where root shows Python's folder to the sandbox, which is not root."""

    def command(self, kind: str, source: int, calls: int, filtered: int | None) -> list[str]:
        """The words that run `launch.py` here; `filtered` is a descriptor with the filter of system calls."""
        limits = self.limits
        words = [kind, source, calls, int(limits.seconds) + 1, limits.memory, limits.disk, limits.processes + 2]
        inside = ["-I", "-S", "-B", "-X", "utf8", "-c", LAUNCH, *(str(word) for word in words)]
        if self.tier == "limits":
            return [str(self.python), *inside]
        start = ["unshare", "-m", "sh", "-c", BIND, str(self.prefix), str(self.shown)] if self.shown else []
        program = Path("/python") / self.python.relative_to(self.prefix)
        return [*start, *self._bubblewrap(filtered), "--", str(program), *inside]

    def _bubblewrap(self, filtered: int | None) -> list[str]:
        words = ["bwrap", "--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent", "--new-session"]
        words += ["--clearenv", "--setenv", "HOME", TMP, "--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
        for name in ("/lib", "/lib64"):
            if Path(name).is_symlink():
                words += ["--symlink", str(Path(name).readlink()), name]
            elif Path(name).is_dir():
                words += ["--ro-bind", name, name]
        for name in ("/usr/lib", "/usr/lib64"):
            words += ["--ro-bind-try", name, name]
        words += ["--ro-bind", str(self.shown or self.prefix), "/python", "--proc", "/proc", "--dev", "/dev"]
        words += ["--remount-ro", "/dev", "--size", str(self.limits.disk), "--tmpfs", TMP, "--chdir", TMP]
        return [*words, "--remount-ro", "/", *(() if filtered is None else ("--seccomp", str(filtered)))]
