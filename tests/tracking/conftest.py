"""Here the charts of reports are drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from klimb.tracking import charts
from tests.faults.runs import PAGES


@pytest.fixture(scope="module", autouse=True)
def _drawn_charts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in PAGES:
            patch.setattr(name, charts.draw)
        yield
