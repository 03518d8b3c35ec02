"""The page on preferences: every block runs, and every objective, source and form of row is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from klimb.data.replies import FORMS
from klimb.objectives import AnyPreference
from klimb.sources.pairing import AnyPairing
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
    assert "mean score" in shown and "win rate" in shown
    runs = {run.name for run in (folder / "runs").iterdir()}
    assert runs == {
        *("dpo", "dpo-scored", "dpo-won", "hypo", "hypo-exact", "mine", "more"),
        *("reward-model", "reward-further", "sft", "rlhf", "rlhf-apart", "lora", "online", "online-ranked", "rounds"),
    }


def test_every_test_that_the_page_names_is_there(root: Path) -> None:
    rows = [
        line
        for line in (root / "docs/preferences.md").read_text("utf-8").splitlines()
        if "`test_" in line and line[0] == "|"
    ]
    for line in rows:
        *elsewhere, name = re.findall(r"`(tests/\w+/\w+\.py|test_\w+)`", line)
        file = elsewhere[0] if elsewhere else "tests/objectives/test_known_preference_bugs.py"
        assert f"def {name}(" in (root / file).read_text("utf-8"), line
    assert len(rows) == 13


def test_the_page_names_every_objective_and_form(root: Path) -> None:
    page = (root / "docs/preferences.md").read_text("utf-8")
    kinds = [one.model_fields["type"].default for one in get_args(get_args(AnyPreference)[0])]
    ways = [f"{{type: {one.model_fields['type'].default}" for one in get_args(get_args(AnyPairing)[0])]
    assert [way for way in ways if way not in page] == []
    assert [name for name in [*kinds, *FORMS] if f"`{name}`" not in page] == []
