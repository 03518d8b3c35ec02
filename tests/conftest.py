"""What every test may use: where the data lies, where the 135M model lies, and shapes checked at run time."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from tests.faults.runs import empty_charts

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks a hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The shapes in signatures are checked here and only here (docs/architecture.md).
install_import_hook("klimb.functional", "beartype.beartype")

gc.disable()  # until every test is collected: a million objects that stay were searched for cycles again and again

ROOT = Path(__file__).resolve().parents[1]
CORE = re.compile(r"/tests/(functional|objectives|bandits|proving)/")
"""The tests of what has to be covered to the last branch."""
WHOLE = re.compile(r"/(faults|laws|learning)/|/test_docs|browser")
"""Tests of whole runs and sweeps, which cover what small ones do."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Coverage makes tests half as fast: it pauses where it is not asked for, or is measured by others."""
    everything = "klimb" in (config.getoption("cov_source", default=None) or ())
    for item in items:
        path = item.path.as_posix()
        if WHOLE.search(path) if everything else not CORE.search(path):
            item.add_marker(pytest.mark.no_cover)


def pytest_collection_finish() -> None:
    """What is there now stays, and is never searched again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside a developer's checkout; the test is skipped where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real data sets (../shared/data) beside this checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _empty_charts() -> Iterator[None]:
    """The charts of reports are drawn in tests/tracking alone, and in programs."""
    with pytest.MonkeyPatch.context() as patch:
        empty_charts(patch)
        yield
