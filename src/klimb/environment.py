"""Where a run was made: versions, machine, threads, command, commit. Never a secret, and no environment variables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from klimb.redact import redact_words

PACKAGES = (
    *("klimb", "torch", "transformers", "safetensors", "numpy", "pyarrow", "pydantic", "accelerate", "gguf"),
    *("reasoning-gym", "tensorboard", "wandb", "mlflow-skinny", "trackio"),
)


def environment() -> dict[str, Any]:
    """What a run's environment.json holds: plain JSON values; what cannot be found out is left out."""
    found = {
        "argv": redact_words(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory(),
        "threads": _threads(),
        "versions": versions(),
        "commit": _commit(Path.cwd()),
    }
    return {name: value for name, value in found.items() if value is not None}


def versions() -> dict[str, str]:
    """The installed versions of klimb and of what its results may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 2)
    except (ValueError, OSError):
        return None


def _threads() -> dict[str, int | str]:
    """The thread counts that were asked for and, where torch is loaded, the one that it uses."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    found: dict[str, int | str] = {name: value for name in names if (value := os.environ.get(name, "")).isdigit()}
    if torch := sys.modules.get("torch"):
        found["torch"] = int(torch.get_num_threads())
    return found


def _commit(folder: Path) -> str | None:
    """The git commit of the code that is being worked on, with `+` where files are changed; None outside of git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
