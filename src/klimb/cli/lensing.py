"""`klimb lens`: the tokens of a run's rollouts, or of a file of completions, on one page."""

from __future__ import annotations

import json
from dataclasses import dataclass
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


def lens(
    target: Path,
    outputs: Outputs,
    *,
    model: str | None = None,
    step: int | None = None,
    against: Path | None = None,
    against_step: int | None = None,
) -> Path:
    """Writes what is asked for, and returns the page's path. Raises KlimbError before anything is loaded."""
    if model is not None:
        _check_file(target, step, against, against_step)
    elif target.is_file():
        asked = f"a lens on the file {target} needs a model to score it"
        raise SettingsError([KlimbError(asked, "no --model", "--model smollm2-135m, or a model folder")])
    page = outputs.page or (target / "lens.html" if model is None else target.with_name(target.name + ".lens.html"))
    for file in (page, outputs.numbers):
        if file is not None and not file.parent.is_dir():
            if model is None and not target.exists():
                break  # the run itself is missing: say that
            raise RunError(f"write {file}", f"no folder {file.parent}", "make it, or name another file")
    views = _views(target, model, step, against, against_step)
    _write(views, page, outputs)
    return page


def _views(
    target: Path, model: str | None, step: int | None, against: Path | None, against_step: int | None
) -> list[View]:
    from klimb.look import file_view, run_views

    if model is not None:
        return [file_view(target, model)]
    return run_views(target, step, against=against, against_step=against_step)


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


def _check_file(target: Path, step: int | None, against: Path | None, against_step: int | None) -> None:
    """A file has no steps and stands beside nothing."""
    if target.is_dir():
        found, cure = "a folder", "leave --model out: a run knows its models"
        raise DataError(f"with --model, {target} is a file of prompts and completions", found, cure)
    for name, value in (("--step", step), ("--against", against), ("--against-step", against_step)):
        if value is not None:
            asked = f"{name} {value}"
            raise SettingsError([KlimbError(asked, f"{target} is a file, which has no steps", f"leave {name} out")])
