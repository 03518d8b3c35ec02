"""The table of papers and the pages of the objectives say what is there: headings, settings, code, recipes, figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import klimb
from klimb.functional import divergence
from klimb.objectives import AnyObjective, AnyPreference
from klimb.tracking.metrics import unknown

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, DOCS = ROOT / "src/klimb", ROOT / "docs"
HEADINGS = ["Idea", "Formula and code", "Settings", "Metrics and how to read them", "Departures"]
POLICY = {kind.model_fields["type"].default: kind for kind in get_args(get_args(AnyObjective)[0])}
GIVEN = {kind.model_fields["type"].default: kind for kind in get_args(get_args(AnyPreference)[0])}
PAGES = sorted(path.stem for path in (DOCS / "objectives").glob("*.md") if path.stem != "study")
NAMED = re.compile(r"`([\w/]+\.py)(?:: ([\w, ]+))?`")
METRIC = re.compile(r"`((?:policy|objective|value|group|tokens|reward|eval|optim)/\w+)`")
FIGURE = re.compile(r"\d+\.\d+(?: ± \d+\.\d+)?")


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


def section(text: str, heading: str) -> str:
    """What stands under a heading."""
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def page(name: str) -> str:
    return (DOCS / f"objectives/{name}.md").read_text("utf-8")


def rows() -> list[list[str]]:
    """The cells of each row of the table of papers, without those of its heads."""
    lines = (DOCS / "papers.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] not in ("paper", "---")]


ROWS = rows()
each_row = pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])


def test_a_page_that_lacks_a_heading_or_has_another_is_found() -> None:
    text = page("grpo")
    assert headings(text) == HEADINGS
    assert headings(text.replace("## Idea\n", "")) != HEADINGS
    assert headings(text + "\n## More\n") != HEADINGS


def test_every_policy_objective_has_a_page() -> None:
    assert {*POLICY} - {"custom"} == {*PAGES} - {"kl"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_five_parts_and_names_what_exists(name: str) -> None:
    text = page(name)
    assert headings(text) == HEADINGS
    assert min(len(section(text, heading).split()) for heading in HEADINGS) >= 10
    idea = section(text, "Idea").split()
    assert len(idea) >= 40 and "Take it" in " ".join(idea), "what it is for, and when to take it"
    recipes = re.findall(r"`(recipes/[\w-]+\.yaml)`", text.split("## Idea")[0])
    assert recipes and [recipe for recipe in recipes if not (ROOT / recipe).is_file()] == []
    for file, functions in NAMED.findall(text):
        path = ROOT / file if file.startswith("tests/") else PACKAGE / file
        assert path.is_file(), file
        for function in filter(None, functions.split(", ")):
            assert re.search(rf"^(\s*def {function}\(|{function}\b.* = )", path.read_text("utf-8"), re.MULTILINE), (
                function
            )
    assert unknown(METRIC.findall(text)) == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "kl"])
def test_a_page_says_every_setting_of_its_objective(name: str) -> None:
    said = section(page(name), "Settings")
    own = [field for field in POLICY[name].model_fields if field not in ("type", "allow_bias")]
    assert [field for field in own if f"`{field}" not in said and f"`objective.{field}" not in said] == []


def test_the_page_of_rpg_has_every_divergence() -> None:
    assert [form for form in divergence.FORMS if f"| {form} |" not in page("rpg")] == []


def test_every_objective_has_a_row_with_its_file_and_paper() -> None:
    files = {file for row in ROWS for file, _ in NAMED.findall(row[1])}
    kinds = {**POLICY, **GIVEN}
    assert [name for name in kinds if name not in ("custom", "sft") and f"objectives/{name}.py" not in files] == []


@each_row
def test_a_row_names_files_pages_and_recipes_that_exist_and_papers_that_they_name(row: list[str]) -> None:
    paper, code, equation, recipe, saw = row
    assert equation and saw
    named = [PACKAGE / path for path in re.findall(r"`([\w/]+(?:\.py|/))`", code)]
    assert named and [path for path in named if not path.exists()] == []
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", code + saw)]
    assert [link for link in links if not (DOCS / link).is_file()] == []
    recipes = [ROOT / f"recipes/{one.split()[0]}.yaml" for one in recipe.split(", ")]
    texts = [path.read_text("utf-8") for top in named for path in ([top] if top.is_file() else top.rglob("*.py"))]
    texts += [path.read_text("utf-8") for path in recipes]
    for paper_id in re.findall(r"\d{4}\.\d{5}", paper):
        assert any(paper_id in text for text in texts), f"{paper_id} is named in no file and no recipe of its row"


@each_row
def test_a_rows_recipes_load_and_run_an_objective_of_the_row(row: list[str]) -> None:
    kinds = set(re.findall(r"`objectives/(\w+)\.py`", row[1]))
    for one in row[3].split(", "):
        name, _, words = one.partition(" ")
        recipe = klimb.load_recipe(ROOT / f"recipes/{name}.yaml", *([words.strip("`")] if words else []))
        assert not kinds or recipe.objective.type in kinds, one


@each_row
def test_a_figure_of_a_row_stands_on_the_page_or_in_the_recipe_that_is_named_beside_it(row: list[str]) -> None:
    saw = row[4]
    sources = [DOCS / link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", saw)]
    sources += [ROOT / f"recipes/{name}.yaml" for name in re.findall(r"`([\w-]+)`", saw)]
    known = "\n".join(path.read_text("utf-8") for path in sources)
    assert [
        figure for figure in FIGURE.findall(saw) if not re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", known)
    ] == []
    assert sources or "not measured" in saw or saw.startswith("as ")
