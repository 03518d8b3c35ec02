"""A million rows are looked at in bounded memory and time."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from klimb.rollouts.form import SCHEMA


def million(path: Path, rows: int = 1_000_000, part: int = 50_000) -> None:
    """Random rollouts: prompts of 20 tokens, eight answers each of 1 to 63 tokens."""
    draw = np.random.default_rng(1)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for start in range(0, rows, part):
            index = np.arange(start, start + part)
            group = index // 8
            lengths = draw.integers(1, 64, part)
            ends = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
            tokens = pa.array(draw.integers(3, 49_000, ends[-1]).astype(np.int32))
            logps = pa.array(-draw.random(ends[-1]).astype(np.float32))
            fixed = pa.array(np.arange(0, 20 * part + 1, 20, dtype=np.int32))
            asked = pa.array(np.repeat(group % 40_000, 20).astype(np.int32))
            reward = draw.integers(0, 2, part).astype(float)
            columns = {
                "step": index // 1024, "group": group.astype(np.int32), "k": (index % 8).astype(np.int32),
                "prompt_id": [f"p{g}" for g in group], "prompt_text": [f"question {g}" for g in group % 40_000],
                "seed": index, "text": ["an answer"] * part, "finish": ["eos"] * part, "reward": reward,
                "scores": [f'{{"exact": {{"outcome": "scored", "value": {r}, "reason": ""}}}}' for r in reward],
                "temperature": np.ones(part), "top_p": np.ones(part), "top_k": np.zeros(part, np.int32),
                "version": ["v"] * part, "metadata": ["{}"] * part,
            }  # fmt: skip
            arrays = {name: pa.array(values) for name, values in columns.items()}
            arrays |= {"prompt_tokens": pa.ListArray.from_arrays(fixed, asked)}
            arrays |= {"tokens": pa.ListArray.from_arrays(pa.array(ends), tokens)}
            arrays |= {name: pa.ListArray.from_arrays(pa.array(ends), logps) for name in ("logps", "entropies")}
            table = [arrays.get(f.name, pa.nulls(part, f.type)).cast(f.type) for f in SCHEMA]
            writer.write_table(pa.Table.from_arrays(table, schema=SCHEMA))


@pytest.mark.slow
def test_a_million_rows_take_less_than_two_minutes_and_two_gigabytes(tmp_path: Path) -> None:
    million(tmp_path / "a.parquet")
    start = time.monotonic()
    words = ["data", "inspect", str(tmp_path / "a.parquet"), "--json", str(tmp_path / "a.json")]
    subprocess.run([sys.executable, "-m", "klimb.cli", *words], check=True, capture_output=True)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    facts = json.loads((tmp_path / "a.json").read_text())
    print(f"{seconds:.1f} s, {peak / 1e9:.2f} GB")
    assert (facts["rows"], facts["prompts"]["different"]) == (1_000_000, 40_000)
    assert facts["logged"] == 1_000_000
    assert seconds < 120
    assert peak < 2e9
