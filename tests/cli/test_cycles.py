"""A command looks for reference cycles as usual once its models are loaded, and no more at its end."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from klimb import cycles
from klimb.cli import main
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load


def test_a_policy_is_used_with_the_usual_searches_and_settings_of_somebodys_own_stay() -> None:
    usual = gc.get_threshold()
    try:
        cycles.search_rarely()
        assert gc.get_threshold() == (cycles.RARELY, *usual[1:])
        load(PolicySettings(name="tiny"))
        assert gc.get_threshold() == usual
        gc.set_threshold(123)
        load(PolicySettings(name="tiny"))
        assert gc.get_threshold()[0] == 123
    finally:
        gc.set_threshold(*usual)


def test_a_command_of_a_program_leaves_its_searches_as_they_were() -> None:
    usual, frozen = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(SystemExit):
        main(["explain", "optimizer.lr"])
    assert (gc.get_threshold(), gc.get_freeze_count()) == (usual, frozen)


def test_a_command_of_its_own_process_ends_without_a_search() -> None:
    script = (
        "import atexit, gc, sys; sys.argv = ['klimb', 'explain', 'optimizer.lr']\n"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count() > 10_000))\n"
        "from klimb.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("frozen True\n")
