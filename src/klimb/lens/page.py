"""The page: one file without network, whose policy lets run only our own script, and which holds model text as data."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from klimb.atomic import write_atomic
from klimb.lens import palette, plots
from klimb.lens.payload import COLOURINGS, payload
from klimb.lens.statistics import LOW
from klimb.lens.summary import Summary, summarise
from klimb.lens.text import embedded, shown
from klimb.lens.view import View


def write_page(views: Sequence[View], file: Path) -> Path:
    """Writes the page, atomically, and returns its path."""
    write_atomic(file, render(views))
    return file


def render(views: Sequence[View]) -> str:
    """The page. The same views give the same text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("klimb.lens")
    script = folder.joinpath("lens.js").read_text("utf-8")
    style = folder.joinpath("lens.css").read_text("utf-8") + palette.sheet()
    summaries = [summarise(view) for view in views]
    drawn = plots.for_page([(shown(view.name), one) for view, one in zip(views, summaries, strict=True)])
    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return engine.from_string(folder.joinpath("lens.html.j2").read_text("utf-8")).render(
        title=shown(" and ".join(view.name for view in views)),
        facts=[_facts(view, one, len(views) > 1) for view, one in zip(views, summaries, strict=True)],
        figures=[(plots.TITLES[key], Markup(svg)) for key, svg in drawn.items()],  # noqa: S704 drawn by ourselves
        missing=[shown(line) for line in _missing(views)],
        script=Markup(script),  # noqa: S704 our own file
        style=Markup(style),  # noqa: S704 our own file
        data=Markup(embedded(payload(views, summaries))),  # noqa: S704 ASCII in which nothing ends the element
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def numbers(views: Sequence[View]) -> dict[str, Any]:
    """The same as values for JSON: every token's numbers, and the distributions."""
    return {"views": [{**_numbers(view), "distributions": summarise(view).plain()} for view in views]}


def _numbers(view: View) -> dict[str, Any]:
    rollouts = [(group, one) for group in view.groups for one in group.rollouts]
    rows = []
    for place, (group, one) in enumerate(rollouts):
        here = view.row == place
        values = {name: [_finite(v) for v in column[here].tolist()] for name, column in view.values.items()}
        rows.append({"prompt_id": group.prompt.id, "k": one.k, "reward": one.reward, "tokens": one.completion.tokens})
        rows[-1]["values"] = values
    return {"name": view.name, "policy": view.policy, "missing": list(view.missing), "rows": rows}


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _facts(view: View, one: Summary, named: bool) -> str:
    """A view in one line."""
    name = f"{view.name}: " if named else ""
    rows = sum(len(group.rollouts) for group in view.groups)
    parts = [f"{len(view.groups)} prompts, {rows} completions, {one.tokens:,} tokens"]
    if one.threshold is not None and one.share_under is not None:
        mean = float(np.mean(view.values["entropy"]))
        parts.append(f"mean entropy {mean:.3g} nats; the top 20 % begin at {one.threshold:.3g}")
        parts.append(f"{100 * one.share_under:.1f} % lie under {LOW}")
    by = f" Measured by {view.policy}." if view.policy else ""
    return shown(name + "; ".join(parts) + "." + by)


def _missing(views: Sequence[View]) -> Iterable[str]:
    for view in views:
        yield from (f"{view.name}: {line}" for line in view.missing)
    known = {name for view in views for name in view.values}
    absent = [one.name for one in COLOURINGS if one.key not in known]
    if absent and not any(view.missing for view in views):
        yield f"colourings that there are no values for: {', '.join(absent)}"


def _hash(text: str) -> str:
    """As a content-security policy names a script or style that may be used."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
