"""The doctor's questions about the machine: versions, devices, arithmetic, allocator, memory, disk."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from klimb.cli.findings import BAD, Finding, Probe

LEAST_DISK_GB = 4.0
LEAST_MEMORY_GB = 4.0
FAST = 1.3
"""bfloat16 is called fast where a matrix product takes less than float32's time by this factor."""


def _versions() -> Iterator[Finding]:
    from klimb.environment import versions

    found = versions()
    new = sys.version_info >= (3, 11)
    python = f"python {platform.python_version()} on {platform.platform()}"
    yield Finding("python", "ok" if new else BAD, python, "" if new else "Python 3.11 or newer")
    wanted = ("torch", "transformers", "safetensors", "numpy", "pyarrow", "pydantic")
    if missing := [name for name in wanted if name not in found]:
        yield Finding("packages", BAD, f"missing: {', '.join(missing)}", "pip install klimb")
    else:
        yield Finding("packages", "ok", ", ".join(f"{name} {version}" for name, version in found.items()))


def _devices() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding("device", "ok", "cpu (torch sees no GPU)")
        return
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield Finding("device", "ok", f"cuda:{index} {about.name}, {about.total_memory / 2**30:.0f} GiB")


def _threads() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    used = torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS")
    text = f"torch uses {used} of {cores} usable cores" + (f" (OMP_NUM_THREADS={asked})" if asked else "")
    if asked and used < cores:
        yield Finding("threads", "note", text, "unset OMP_NUM_THREADS")
    else:
        yield Finding(
            "threads", "ok" if used <= cores else "note", text, "" if used <= cores else f"OMP_NUM_THREADS={cores}"
        )


def _arithmetic() -> Iterator[Finding]:
    from klimb.policy.hardware import device_of, has_bfloat16

    device = device_of("auto")
    has = has_bfloat16(device)
    gain = _gain(device)
    how = "in hardware" if has else "emulated, or in hardware that gains nothing"
    share = f"1/{gain:.1f} of" if gain >= 1 else f"{1 / gain:.1f} times"
    text = f"{how}; a matrix product takes {share} float32's time"
    fast = has and gain >= FAST
    cure = "" if fast == has else "model.precision=float32"
    yield Finding("bfloat16", "ok" if fast else "note", f"{text}: {'fast' if fast else 'not fast'}", cure)


def _gain(device: Any) -> float:
    """Time of a float32 matrix product over that of a bfloat16 one, the best of two to eight in 0.3 s each.

    Two at least: the first may start a library.
    """
    import torch

    def best(dtype: torch.dtype) -> float:
        left = torch.ones(256, 1024, dtype=dtype, device=device)
        right = torch.ones(1024, 1024, dtype=dtype, device=device)
        times: list[float] = []
        while len(times) < 2 or (len(times) < 8 and sum(times) < 0.3):
            start = time.perf_counter()
            float((left @ right)[0, 0])
            times.append(time.perf_counter() - start)
        return min(times)

    return best(torch.float32) / best(torch.bfloat16)


def _allocator() -> Iterator[Finding]:
    from klimb.policy.hardware import keep_freed_pages

    loaded = [name for name in ("jemalloc", "tcmalloc", "mimalloc") if name in os.environ.get("LD_PRELOAD", "")]
    if loaded:
        yield Finding("allocator", "ok", f"{loaded[0]} (LD_PRELOAD)")
    elif keep_freed_pages():
        yield Finding("allocator", "ok", "glibc, told to keep freed pages")
    else:
        yield Finding("allocator", "note", "not glibc: freed pages go back to the system, which costs some time")


def _memory() -> Iterator[Finding]:
    try:
        pairs = (line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        free = {name: int(rest.split()[0]) / 1e6 for name, rest in pairs}
    except (OSError, ValueError, IndexError):
        yield Finding("memory", "note", "not known on this system")
        return
    text = f"{free['MemAvailable']:.1f} GB available of {free['MemTotal']:.1f} GB"
    enough = free["MemAvailable"] >= LEAST_MEMORY_GB
    yield Finding(
        "memory", "ok" if enough else "note", text, "" if enough else "model.checkpointing=true, or a tiny model"
    )


def _disk() -> Iterator[Finding]:
    cache = os.environ.get("KLIMB_CACHE")
    folders = {"disk": Path.cwd(), "cache": Path(cache).expanduser() if cache else Path.home() / ".cache" / "klimb"}
    for name, folder in folders.items():
        yield _room(name, folder)


def _room(name: str, folder: Path) -> Finding:
    """Whether the folder, or the nearest one above it that is there, can be written and has room."""
    there = next((place for place in (folder, *folder.parents) if place.is_dir()), Path("/"))
    cure = "set KLIMB_CACHE to a writable folder" if name == "cache" else "work in a folder that you may write"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
        free = shutil.disk_usage(there).free / 1e9
    except OSError as error:
        return Finding(name, BAD, f"{folder} cannot be written: {error.strerror or error}", cure)
    text = f"{folder}: {free:.1f} GB free"
    enough = free >= LEAST_DISK_GB
    return Finding(name, "ok" if enough else "note", text, "" if enough else "free some disk")


PROBES: Mapping[str, Probe] = MappingProxyType(
    {
        "packages": _versions,
        "device": _devices,
        "threads": _threads,
        "bfloat16": _arithmetic,
        "allocator": _allocator,
        "memory": _memory,
        "disk": _disk,
    }
)
