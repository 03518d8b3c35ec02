"""Both stages of tiny-forking: the form of an answer of thirty tokens, then the one of them that has to be found."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

import klimb
from klimb.rundir import RunDir


@pytest.mark.slow
def test_a_fifth_of_the_tokens_teach_the_digit_in_three_of_three_seeds(root: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    began = klimb.train(klimb.load_recipe(root / "recipes/tiny-worked.yaml"), run=tmp_path / "worked").model
    for seed in range(3):
        recipe = klimb.load_recipe(root / "recipes/tiny-forking.yaml", f"model.name={began}", f"seed={seed}")
        started = time.process_time()
        result = klimb.train(recipe, run=tmp_path / f"forking-{seed}")
        assert time.process_time() - started < 40
        assert result.after["eval/accuracy"] >= result.before["eval/accuracy"] + 0.1, f"seed {seed}"
        assert result.after["eval/length"] >= 29
        lines = RunDir.open(result.path).read_metrics()[1:]
        assert all(line["selection/share"] == pytest.approx(0.2, abs=1e-3) for line in lines)
        assert sum(line["reward/numeric"] for line in lines[-5:]) > sum(line["reward/numeric"] for line in lines[:5])
