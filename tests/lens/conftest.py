"""A small run that the tests of this folder look at."""

from __future__ import annotations

from pathlib import Path

import pytest

import klimb
from tests.faults.runs import SETTINGS

TWICE = {"prompts": 4, "completions": 4, "epochs": 2, "minibatches": 2}
LONGER = SETTINGS | {"data": {"type": "echo-digit", "train": 512}, "source": TWICE}
"""Two passes over each batch, of prompts whose entropies at the start have no near ties at the threshold."""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("lens") / "small"
    klimb.train(klimb.Recipe.model_validate(LONGER), run=path)
    return path
