"""The page on selection: its settings are settings, and its selector of one's own selects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import yaml

from klimb.config import resolve
from klimb.recipe import Recipe
from klimb.tracking.metrics import find
from tests.selection.kit import some
from tests.test_docs import blocks, folder

__all__ = ["folder"]


def settings(root: Path) -> list[dict[str, Any]]:
    """What the YAML blocks of the page say."""
    return [yaml.safe_load(text) for language, text in blocks(root / "docs/selection.md") if language == "yaml"]


def test_the_settings_of_the_page_go_with_the_forking_recipes(root: Path, folder: Path) -> None:
    (code,) = (text for language, text in blocks(root / "docs/selection.md") if language == "python")
    (folder / "mine.py").write_text(code, "utf-8")
    recipe = yaml.safe_load((folder / "recipes/dapo-forking.yaml").read_text("utf-8"))
    own, watched = (resolve(Recipe, recipe | changes) for changes in settings(root))
    whole = some()
    place = torch.cat([torch.arange(int(length)) for length in whole.lengths])
    assert torch.equal(own.selector.keep(whole), whole.learn & (place < 3))
    types = [rule.type for rule in watched.alerts]
    assert types == ["entropy-collapse", "kl-spike", "degenerate", "truncation", "overoptimised", "metric"]
    assert [rule.stop for rule in watched.alerts].count(True) == 1


def test_every_metric_that_the_page_names_is_in_the_glossary(root: Path) -> None:
    page = (root / "docs/selection.md").read_text("utf-8")
    names = set(re.findall(r"`((?:selection|policy|diversity)/[a-z0-9_]+)`", page))
    assert {"selection/share", "selection/share_live", "policy/kl_old"} <= names
    assert [name for name in names if find(name) is None] == []
