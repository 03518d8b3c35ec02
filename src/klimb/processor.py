"""What the processor says about itself (Linux; elsewhere nothing is known); needs no torch."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def has_fast_bfloat16() -> bool:
    """Whether it multiplies bfloat16 faster than float32.

    AMX does, and AVX-512's instruction does on AMD (twice as fast). On Intel that instruction alone is no faster than
    float32's: a matrix product took 1.8 times as long where a virtual machine hides AMX (docs/performance.md).
    """
    try:
        text = CPUINFO.read_text("utf-8", "replace")
    except OSError:
        return False
    return "amx_bf16" in text or ("avx512_bf16" in text and "GenuineIntel" not in text)
