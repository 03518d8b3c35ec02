"""The page of a step of the 135M model, in time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import klimb
from klimb.cli import recipes
from klimb.policy import pull

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.mark.timeout(900)
def test_the_page_of_64_rollouts_of_the_135m_model_takes_less_than_20_seconds(tmp_path: Path) -> None:
    """The whole command in a process of its own, imports, two models and all, on two cores."""
    if pull.resolve("smollm2-135m") is None:
        pytest.skip("no smollm2-135m in the cache: klimb pull smollm2-135m")
    words = [f"run={tmp_path / 'run'}", "training.steps=1", "evaluation.problems=1", "evaluation.every=100"]
    klimb.train(recipes.load("demo", words))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "klimb.cli", "lens", str(tmp_path / "run")], check=True, timeout=300)
    took = time.perf_counter() - start
    assert (tmp_path / "run/lens.html").stat().st_size > 100_000
    assert took < 20.0, f"{took:.1f} s"
