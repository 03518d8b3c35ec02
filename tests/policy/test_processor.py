"""Whether bfloat16 is used, by what /proc/cpuinfo says."""

from __future__ import annotations

from pathlib import Path

import pytest

from klimb import processor

INTEL, AMD = "vendor_id : GenuineIntel\nflags : fpu ", "vendor_id : AuthenticAMD\nflags : fpu "


@pytest.mark.parametrize(
    ("text", "fast"),
    [
        (INTEL + "avx512_bf16 amx_bf16 amx_tile", True),
        (INTEL + "avx512f avx512_bf16", False),
        (INTEL + "avx512f", False),
        (AMD + "avx512f avx512_bf16", True),
        (AMD + "avx2", False),
    ],
)
def test_intel_s_bfloat16_without_amx_counts_for_nothing(
    text: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert processor.has_fast_bfloat16() is fast


def test_where_nothing_is_known_it_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    assert not processor.has_fast_bfloat16()
