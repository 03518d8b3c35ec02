"""`klimb --help` is quick, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "pydantic", "yaml", "numpy", "rich")
LOADED = f"""
import json, sys
from klimb.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, sorted(set({HEAVY!r}) & set(sys.modules))]), file=sys.stderr)
"""


def loaded(*words: str) -> tuple[int, list[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, timeout=60, check=True
    )
    code, heavy = json.loads(done.stderr.splitlines()[-1])
    return code, heavy, done.stdout


@pytest.mark.parametrize("words", [["--help"], [], ["-h"], ["--version"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code, heavy, out = loaded(*words)
    assert (code, heavy) == (0, [])
    assert "klimb" in out


def test_help_names_every_command() -> None:
    _, _, out = loaded("--help")
    for name in (
        "train",
        "evaluate",
        "sample",
        "pull",
        "explain",
        "doctor",
        "report",
        "logs",
        "data",
        "rewards",
        "study",
        "lens",
        "prove",
    ):
        assert f"\n  {name} " in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["explain", "optimizer.lr"], "1e-05"),
        (["logs", "import", "--help"], "--estimate"),
        (["data", "inspect", "--help"], "--policy"),
        (["train", "--help"], "--dry-run"),
        (["lens", "--help"], "--against-step"),
        (["study", "temperatures", "--help"], "--threshold"),
        (["explain"], "source"),
    ],
)
def test_what_needs_no_model_loads_no_torch(words: list[str], says: str) -> None:
    code, heavy, out = loaded(*words)
    assert code == 0
    assert not {"torch", "transformers"} & set(heavy)
    assert says in out


@pytest.mark.slow
def test_help_takes_less_than_three_tenths_of_a_second() -> None:
    """Processor time, which is what a quiet machine's clock shows, and does not depend on who else works."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "klimb.cli", "--help"], capture_output=True, check=True)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert statistics.median(times) < 0.3, times
