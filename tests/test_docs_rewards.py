"""The page on comparing rewards: every block runs, and says what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import test_docs
from tests.test_docs import blocks, command

folder = test_docs.folder


def test_every_block_of_the_page_on_comparing_rewards_runs(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ""
    for language, text in blocks(root / "docs/comparing-rewards.md"):
        head, _, rest = text.partition("\n")
        if head.startswith("# file: "):
            (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
        elif language == "python":
            exec(compile(text, "comparing-rewards.md", "exec"), {"__name__": "page"})
        else:
            shown += "".join(command(line, capsys) for line in text.splitlines())
    assert "4 pairs of 4 prompts" in shown and "above the diagonal" in shown
    found = json.loads((folder / "compared.json").read_text("utf-8"))
    assert [row["name"] for row in found["rows"]] == ["words", "flesch", "repetition", "length"]
    by = {(cell["first"], cell["second"]): cell for cell in found["cells"]}
    assert by["words", "length"]["agreement"] == 0.0, "length is a price"
