"""The glossary."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import klimb
from klimb.errors import RunError
from klimb.tracking.metrics import GLOSSARY, find, require, unknown

FAMILIES = "reward|outcome|group|policy|objective|selection|optim|length|tokens|eval|time|memory"
NAME = re.compile(rf"(?:{FAMILIES})/[a-z_]+")


def emitted() -> set[str]:
    """Every text in the source that is a whole metric name."""
    found = set()
    for path in Path(klimb.__file__).parent.rglob("*.py"):
        if path.name != "metrics.py":
            nodes = ast.walk(ast.parse(path.read_text("utf-8")))
            texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
            found |= {text for text in texts if NAME.fullmatch(text)}
    return found


def test_every_metric_that_the_source_names_stands_in_the_glossary() -> None:
    names = emitted()
    assert "eval/accuracy" in names
    assert unknown(names) == []


def test_every_entry_says_its_unit_and_its_meaning_once() -> None:
    names = [metric.name for metric in GLOSSARY]
    assert len(set(names)) == len(names)
    assert all(metric.unit and len(metric.meaning) > 10 for metric in GLOSSARY)


def test_an_exact_entry_goes_before_a_pattern() -> None:
    exact, pattern = find("reward/mean"), find("reward/exact-match")
    assert exact is not None
    assert exact.name == "reward/mean"
    assert pattern is not None
    assert pattern.name == "reward/<source>"


@pytest.mark.parametrize("name", ["", "rewards/mean", "reward", "reward/", "reward/a/b", "reward/a b", "lossy"])
def test_other_names_are_unknown(name: str) -> None:
    assert unknown([name, "loss"]) == [name]


def test_an_unknown_name_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(RunError, match=r"'rewrd/mean'.*'reward/mean'"):
        require(["loss", "rewrd/mean"])
