"""What every test may use: where the data lies, where the 135M model lies, and shapes checked at run time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks a hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The shapes in signatures are checked here and only here (docs/architecture.md).
install_import_hook("klimb.functional", "beartype.beartype")

PAGES = ("klimb.tracking.report.draw", "klimb.tracking.proxies.draw")
"""What draws the charts of a report."""
ROOT = Path(__file__).resolve().parents[1]


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
    """The charts of a report take half of the time of a short run: drawn in tests/tracking alone, and in programs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in PAGES:
            patch.setattr(name, lambda *_, **__: "<svg></svg>")
        yield
