"""The page on code as an answer: its example runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from klimb.rundir import RunDir
from tests import test_docs
from tests.test_docs import blocks, command

folder = test_docs.folder


def test_the_example_of_the_page_on_code_runs(root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = blocks(root / "docs/code-rewards.md")
    for _, text in found:
        head, _, rest = text.partition("\n")
        if head.startswith("# file: "):
            (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
    (line,) = (text for language, text in found if language == "sh")
    command(line, capsys)
    events = RunDir.open(folder / "runs/code").read_events()
    assert [event["source"] for event in events if event["kind"] == "reward_cost"] == ["code"]
