"""The page on several rewards: every block runs, and every way and gain is named."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from klimb.rewards.combining import AnyCombining
from tests import test_docs
from tests.test_docs import blocks, command

folder = test_docs.folder


def test_every_block_of_the_page_on_several_rewards_runs(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for language, text in blocks(root / "docs/combining.md"):
        if language == "python":
            exec(compile(text, "combining.md", "exec"), {"__name__": "page"})
            continue
        for line in text.splitlines():
            command(line, capsys)
    assert {run.name for run in (folder / "runs").iterdir()} == {"gated", "laser", "laser-dpo", "laser-python"}


def test_the_page_names_every_way(root: Path) -> None:
    page = (root / "docs/combining.md").read_text("utf-8")
    kinds = [one.model_fields["type"].default for one in get_args(get_args(AnyCombining)[0])]
    assert len(kinds) == 11 and [name for name in kinds if f"| `{name}`" not in page] == []
