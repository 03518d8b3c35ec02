"""The page on several rewards: every block runs, and every way and gain is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml

from klimb.recipe import load_recipe
from klimb.rewards.combining import AnyCombining
from klimb.rewards.combining.selected import Selected
from klimb.rewards.combining.selected_paper import SelectedPaper
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
    assert {run.name for run in (folder / "runs").iterdir()} == {
        "gated",
        "laser",
        "laser-dpo",
        "laser-rounds",
        "laser-python",
    }


def test_the_two_modes_on_the_page_on_bandits_are_the_two_records_as_they_are(root: Path) -> None:
    modes = [yaml.safe_load(text)["combining"] for kind, text in blocks(root / "docs/bandits.md") if kind == "yaml"]
    names = ("tiny-laser-dpo", "tiny-laser")
    said = [f"combining={json.dumps(mode)}" for mode in modes]
    found = [load_recipe(root / f"recipes/{name}.yaml", words) for name, words in zip(names, said, strict=True)]
    assert [one.combining for one in found] == [SelectedPaper(), Selected(judge="judge")]
    whole = [set(type(one.combining).model_fields) - {"noise"} for one in found]
    assert set(modes[1]) == whole[1] and set(modes[0]) == whole[0] - {"size", "judge", "share"}


def test_the_page_names_every_way(root: Path) -> None:
    page = (root / "docs/combining.md").read_text("utf-8")
    kinds = [one.model_fields["type"].default for one in get_args(get_args(AnyCombining)[0])]
    assert len(kinds) == 11 and [name for name in kinds if f"| `{name}`" not in page] == []
