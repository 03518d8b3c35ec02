"""A user's own Python file as a module."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path


def run(file: str) -> object:
    """The module of a Python file, run once for each content, under a name by which pydantic finds its annotations.

    Raises ImportError where it is no Python file, and whatever the file itself raises.
    """
    content = str(Path(file).resolve()).encode() + Path(file).read_bytes()
    name = f"klimb_custom_{hashlib.blake2b(content, digest_size=8).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file; a name that ends in .py is needed")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
