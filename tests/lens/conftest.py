"""A small run that the tests of this folder look at."""

from __future__ import annotations

from pathlib import Path

import pytest

import klimb
from tests.faults.runs import SETTINGS


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("lens") / "small"
    klimb.train(klimb.Recipe.model_validate(SETTINGS), run=path)
    return path
