"""Where recipes are: a path, or the name of one in recipes/; and their settings with the words over them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.errors import KlimbError, SettingsError

if TYPE_CHECKING:
    from klimb.recipe import Recipe


def load(name: str, words: Sequence[str] = ()) -> Recipe:
    """The settings of a recipe by path or name, with the words over them. Raises SettingsError; imports no torch."""
    from klimb.config import load as load_settings
    from klimb.recipe import Recipe

    return load_settings(Recipe, find(name), words)


def find(name: str) -> Path:
    """The file of a recipe. Raises SettingsError naming the nearest one where there is none."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = names()
    if name in known:
        return known[name]
    found = "a folder" if path.is_dir() else "no such file"
    raise SettingsError([KlimbError(f"there must be a recipe {name}", found, _cure(path, known))])


def names() -> dict[str, Path]:
    """The recipes by name: those that klimb brings (installed, or in its own project), and over them ./recipes."""
    brought = Path(sys.prefix) / "share" / "klimb" / "recipes"
    folders = (brought, Path(__file__).resolve().parents[3] / "recipes", Path("recipes"))
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def header(path: Path) -> str:
    """The comment at the top of a recipe: paper, hardware, minutes, what one should see."""
    lines = []
    for line in path.read_text("utf-8", "replace").splitlines():
        if line.strip() and not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines).strip()


def _cure(path: Path, known: dict[str, Path]) -> str:
    """What to give instead of a path where no recipe is."""
    from klimb.nearest import nearest

    if path.is_dir() and (path / "config.json").is_file():
        return f"the recipe that the run was made from, with run={path}"
    beside = {str(other): other for other in path.parent.glob("*.y*ml")} if path.parent.is_dir() else {}
    close = nearest(str(path), beside) or nearest(path.stem, known)
    if close:
        return f"{close}?"
    return "one of: " + ", ".join(sorted(known)) if known else "the path of a YAML file"
