"""A file's content hash is that of its bytes, of which few are in memory at once."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

from klimb.start import _content


def test_a_large_file_is_hashed_piece_by_piece_and_one_that_cannot_be_read_has_no_hash(tmp_path: Path) -> None:
    file, held = tmp_path / "model.safetensors", bytes(range(256)) * (1 << 15)
    file.write_bytes(held)
    tracemalloc.start()
    found = _content(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == hashlib.sha256(held).hexdigest() and peak < len(held) / 8
    assert _content(tmp_path) == _content(tmp_path / "none") == ""
