"""What the machine has: device, arithmetic, and an allocator that is told to keep its pages."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Literal

import torch

from klimb.errors import ModelError
from klimb.processor import has_fast_bfloat16

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEEP = (1 << 31) - 1
PRIMITIVES = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128"
"""oneDNN keeps compiled code and working memory for each shape it met, 1,024 of them: 50 MB more with every step, for
lengths differ. 128 hold those of one decoding step and of one part of a training step, where they are used again."""


def device_of(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to use. Raises ModelError where cuda is asked for and not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device=cuda wants a GPU that torch can see", "none", "model.device=cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 matrices in hardware, and no slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return has_fast_bfloat16()


def dtype_of(wanted: Literal["auto", "bfloat16", "float32"], device: torch.device, small: bool = False) -> torch.dtype:
    """The arithmetic to use; auto is float32 for a `small` model, where bfloat16 gains nothing."""
    if wanted == "auto":
        return torch.bfloat16 if has_bfloat16(device) and not small else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def bound_primitives() -> None:
    """Bounds oneDNN's cache, unless the user has; it is read when oneDNN is first used."""
    os.environ.setdefault(*PRIMITIVES)


def keep_freed_pages() -> bool:
    """Tells glibc to keep freed memory for the next use: fresh pages cost several times what their bytes do.

    Says whether it could (it cannot on systems without glibc, where nothing changes).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEEP)) and bool(mallopt(M_TRIM_THRESHOLD, KEEP))


def release_freed_pages() -> None:
    """Gives memory that is free back to the system: kept pages between blocks of changing sizes would add up."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
