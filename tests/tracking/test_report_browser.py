"""The report in a real browser: it opens from a file, shows its numbers, and asks the network for nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import klimb
from tests.faults.runs import SETTINGS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-component-update",
    "--disable-background-networking",
    "--enable-logging=stderr",
)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_report_opens_in_a_browser_without_a_console_message(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    result = klimb.train(klimb.Recipe.model_validate(SETTINGS), run=tmp_path / "run")
    picture = tmp_path / "report.png"
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command += [f"--screenshot={picture}", "--window-size=1100,2400", result.report.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    assert "Held-out accuracy" in done.stdout
    assert done.stdout.count("<svg") >= 4
    assert "<script" not in done.stdout
    assert picture.stat().st_size > 20_000, "a page was drawn"
