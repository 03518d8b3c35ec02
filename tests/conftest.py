"""What every test may use: where the data lies, where the 135M model lies, and shapes checked at run time."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from tests.faults.runs import empty_charts
from tests.watched import CORE, pauses

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks a hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The shapes in signatures are checked here and only here (docs/architecture.md).
install_import_hook("klimb.functional", "beartype.beartype")

gc.disable()  # until every test is collected: a million objects that stay were searched for cycles again and again

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Coverage pauses from the first fixture of a test to its last, where it is not asked for."""
    control = getattr(item.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if control is None or not pauses(item.config.getoption("cov_source") or (), item.nodeid):
        return (yield)
    control.pause()
    try:
        return (yield)
    finally:
        control.resume()


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is there now stays, and is never searched again."""
    if session.config.getoption("cov_source", default=None):
        for name in CORE:  # else a module would be imported first in a test in which coverage pauses, or in another
            for module in pkgutil.iter_modules([str(ROOT / "src/klimb" / name)], f"klimb.{name}."):
                importlib.import_module(module.name)
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
