"""`klimb study temperatures` on the tiny model: the table, the files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from klimb.cli import recipes
from klimb.compare.temperatures import Cell, Grid, cells
from klimb.examine import measure
from tests.cli.test_commands import RECIPE, klimb
from tests.test_docs import blocks, command, folder

__all__ = ["folder"]

FAR = 1e9
"""A threshold that no entropy reaches."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("study") / "echo.yaml"
    file.write_text(RECIPE, "utf-8")
    return file


def grid(recipe: Path, *sides: Any) -> list[Cell]:
    return list(cells(recipes.load(str(recipe), ["evaluation.problems=40"]), Grid(*sides)))


def test_the_command_of_the_page_writes_a_table_and_files_of_every_pair(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = (text for _, text in blocks(root / "docs/selection.md") if text.startswith("klimb study"))
    out = command(text.splitlines()[0], capsys)
    pairs = [(high, low) for high in (0.5, 1.0, 2.0) for low in (0.5, 1.0, 2.0)]
    assert all(f"\n| {high:g} | {low:g} | " in out for high, low in pairs)
    made = folder / "runs/temperatures"
    held = json.loads((made / "temperatures.json").read_text("utf-8"))
    assert [(one["high"], one["low"], one["threshold"]) for one in held["cells"]] == [(*pair, 0.672) for pair in pairs]
    assert {one["eval/n"] for one in held["cells"]} == {16.0} and held["settings"]["model"]["name"] == "tiny"
    svg = (made / "temperatures.svg").read_text("utf-8")
    assert "temperature up to 0.672 nats" in svg and svg.count(" %</text>") == 9
    assert (made / "temperatures.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_side_that_is_in_use_changes_what_is_drawn(recipe: Path) -> None:
    """Above no entropy, `high` counts alone; under a threshold that is never reached, `low` does."""
    above, under = grid(recipe, (0.0, 1.0), (0.0, 3.0), 0.0), grid(recipe, (0.0, 3.0), (0.0, 1.0), FAR)
    assert [one.above for one in above] == [1.0] * 4 and [one.above for one in under] == [0.0] * 4
    assert above[0].found == above[1].found and above[2].found == above[3].found
    assert under[0].found == under[2].found and under[1].found == under[3].found
    assert above[0].found == under[0].found, "greedy either way"
    assert above[2].found == measure(recipes.load(str(recipe), ["evaluation.problems=40"])), "a temperature of one"


def test_a_source_of_given_answers_asks_its_shorter_prompts_here_too(root: Path) -> None:
    words = ["evaluation.problems=4", "rewards=[{type: length}]", "evaluation.correct=length", "source.prompt_tokens=3"]
    asked = (recipes.load(str(root / "recipes/tiny-dpo.yaml"), each) for each in (words, words[:-1]))
    (cut,), (whole,) = (cells(one, Grid((1.0,), (1.0,))) for one in asked)
    assert cut.entropy != whole.entropy, "the same seeds, the same weights"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--high", "1,hot"], "'hot'"),
        (["--low", "11"], "numbers from 0 to 10"),
        (["--low", "1,1"], "each once"),
        (["--high", ""], "''"),
    ],
)
def test_what_is_no_temperature_is_named(
    words: list[str], says: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert klimb("study", "temperatures", "tiny", "--recipe", recipe, *words) == 2
    assert says in capsys.readouterr().err
