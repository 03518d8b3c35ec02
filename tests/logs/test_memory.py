"""How much memory an import and a replay take: both hold a whole log as objects, unlike an inspection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.logs.test_million import million

IMPORT = "from klimb.logs.importing import import_log; import_log(Path({0!r}), 'trl', Path({0!r} + '.out'), None)"
REPLAY = (
    "from klimb.sources.replayed import Replayed; from klimb.sources.base import Demands;"
    "log = Replayed(logs={0!r}).read(Demands())"
)


def peak(code: str, path: Path) -> float:
    """The most memory, in kB, of a process that does it; `ru_maxrss` would begin with that of the process here."""
    after = "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    words = [sys.executable, "-c", f"from pathlib import Path\n{code.format(str(path))}\n{after}"]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_a_row_takes_at_most_so_many_kilobytes_in_an_import_and_in_a_replay(tmp_path: Path) -> None:
    for rows in (20_000, 60_000):
        line = [
            json.dumps({"prompt": f"{n // 8}+1=", "completion": "an answer " * 10, "r": n % 2}) for n in range(rows)
        ]
        (tmp_path / f"{rows}.jsonl").write_text("\n".join(line))
        million(tmp_path / f"{rows}.parquet", rows, 20_000)
    for code, ending, most in ((IMPORT, "jsonl", 6.0), (REPLAY, "parquet", 12.0)):
        low, high = (peak(code, tmp_path / f"{rows}.{ending}") for rows in (20_000, 60_000))
        print(f"{ending}: {(high - low) / 40_000:.2f} kB a row")
        assert 0 < (high - low) / 40_000 < most
