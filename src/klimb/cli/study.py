"""The commands under `klimb study`; their work is in a module of its own, imported when one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

study = typer.Typer(help="Experiments on a model that is there.", rich_markup_mode=None)


@study.callback()
def _study() -> None:
    """Experiments on a model that is there."""


@study.command()
def temperatures(
    target: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run, a model folder or a model name.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings over the recipe's.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="The recipe whose held-out problems are asked.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="The checkpoint of a run; by default the newest.")] = None,
    high: Annotated[str, typer.Option(help="Temperatures above the threshold, as 0.5,1,2.")] = "0.5,1,2",
    low: Annotated[str, typer.Option(help="Temperatures at the threshold and under it.")] = "0.5,1,2",
    threshold: Annotated[float, typer.Option(min=0.0, help="Nats of the policy's own entropy.")] = 0.672,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the grid is written.")] = Path("temperatures"),
) -> None:
    """Held-out accuracy by two temperatures: one where the policy is uncertain, one elsewhere."""
    from klimb.cli import studying

    wanted = studying.Wanted(target, words or [], recipe, step)
    studying.temperatures(wanted, studying.sides(high, low, threshold), out)
