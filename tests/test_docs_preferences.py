"""The page on preferences: every block runs, and every objective, source and form of row is named."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from klimb.data.replies import FORMS
from klimb.objectives import AnyPreference
from tests import test_docs
from tests.test_docs import blocks, command

folder = test_docs.folder


def test_every_block_of_the_page_on_preferences_runs(
    root: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = ""
    for language, text in blocks(root / "docs/preferences.md"):
        head, _, rest = text.partition("\n")
        if language == "json":
            (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
            continue
        shown += "".join(command(line, capsys) for line in text.splitlines())
    assert "KL to start" in shown and "longer wins" in shown
    assert {run.name for run in (folder / "runs").iterdir()} == {"dpo", "hypo", "mine", "reward", "lora", "online"}


def test_the_page_names_every_objective_and_form(root: Path) -> None:
    page = (root / "docs/preferences.md").read_text("utf-8")
    kinds = [one.model_fields["type"].default for one in get_args(get_args(AnyPreference)[0])]
    assert [name for name in [*kinds, *FORMS] if f"`{name}`" not in page] == []
