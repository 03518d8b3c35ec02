"""Sources whose answers nothing weighs say so of importance weights, each with its reason and its cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from klimb.generation.base import Sampling
from klimb.sources.base import Source
from klimb.sources.iterative_pairs import IterativePairs
from klimb.sources.logged_pairs import LoggedPairs
from klimb.sources.pairs import Pairs
from klimb.sources.replayed import Replayed


@pytest.mark.parametrize(
    "source", [Pairs(), IterativePairs(), LoggedPairs(logs=Path("log")), Replayed(logs=Path("log"), old="behaviour")]
)
def test_a_correction_where_nothing_is_weighed_is_one_fault_of_all_sources(source: Source) -> None:
    (fault,) = source.conflicts(True, Sampling(), True)
    assert fault.asked == "correct for the sampler by importance weights (training.correction)"
    assert "source." in fault.found and fault.cure.startswith("training.correction.type=none")
    assert not list(source.conflicts(False, Sampling(), True))
