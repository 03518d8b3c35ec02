"""`klimb lens`: the tokens of a run's rollouts, or of a file of completions, on one page."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.errors import DataError, KlimbError, RunError, SettingsError

if TYPE_CHECKING:
    from klimb.lens.view import View


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the page goes, and, where asked for, the numbers and the figures."""

    page: Path | None = None
    numbers: Path | None = None
    plots: Path | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked at: a run and its step, and what beside it; or, where a model is named, a file."""

    target: Path
    model: str | None = None
    step: int | None = None
    against: Path | None = None
    against_step: int | None = None
    least: int | None = None


def lens(wanted: Wanted, outputs: Outputs) -> Path:
    """Writes what is asked for, and returns the page's path. Raises KlimbError; settings before anything is loaded."""
    target = wanted.target
    if wanted.model is not None:
        _check_file(wanted)
    elif target.is_file():
        asked = f"a lens on the file {target} needs a model to score it"
        raise SettingsError([KlimbError(asked, "no --model", "--model smollm2-135m, or a model folder")])
    beside = target / "lens.html" if wanted.model is None else target.with_name(target.name + ".lens.html")
    for file in filter(None, (outputs.page, outputs.numbers)):
        if not file.parent.is_dir():
            raise RunError(f"write {file}", f"no folder {file.parent}", "make it, or name another file")
    views = [replace(view, least=wanted.least) for view in _views(wanted)]
    page = outputs.page or beside
    _write(views, page, outputs)
    return page


def _views(wanted: Wanted) -> list[View]:
    from klimb.look import file_view, run_views

    if wanted.model is not None:
        return [file_view(wanted.target, wanted.model)]
    return run_views(wanted.target, wanted.step, against=wanted.against, against_step=wanted.against_step)


def _write(views: list[View], page: Path, outputs: Outputs) -> None:
    from klimb.atomic import write_atomic
    from klimb.lens import page as pages
    from klimb.lens import plots
    from klimb.lens.summary import summarise
    from klimb.lens.text import shown

    pages.write_page(views, page)
    if outputs.numbers is not None:
        write_atomic(outputs.numbers, json.dumps(pages.numbers(views), allow_nan=False) + "\n")
    if outputs.plots is not None:
        plots.write([(shown(view.name), summarise(view)) for view in views], outputs.plots)


def _check_file(wanted: Wanted) -> None:
    """A file has no steps and stands beside nothing."""
    if wanted.target.is_dir():
        asked = f"with --model, {wanted.target} is a file of prompts and completions"
        raise DataError(asked, "a folder", "leave --model out: a run knows its models")
    options = {"--step": wanted.step, "--against": wanted.against, "--against-step": wanted.against_step}
    for name, value in options.items():
        if value is not None:
            found = f"{wanted.target} is a file, which has no steps"
            raise SettingsError([KlimbError(f"{name} {value}", found, f"leave {name} out")])
