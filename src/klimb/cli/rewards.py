"""The commands under `klimb rewards`; their work is in a module of its own, imported when one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

rewards = typer.Typer(help="Look at reward sources before training on them.", rich_markup_mode=None)


@rewards.callback()
def _rewards() -> None:
    """Look at reward sources before training on them."""


@rewards.command()
def compare(
    pairs: Annotated[Path, typer.Argument(metavar="DATA", help="Preference pairs: JSON lines, a list, or Parquet.")],
    sources: Annotated[Path, typer.Option("--rewards", metavar="FILE.yaml", help="A list `rewards:`, or a recipe.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="How the rows are read, as in `data`: rows=hh limit=500"),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Whose tokens are counted; by default words are.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all of it as JSON.")
    ] = None,
) -> None:
    """Say how far reward sources agree, with people and with each other, on preference pairs."""
    from klimb.cli import rewarding

    rewarding.compare(pairs, sources, words or [], model=policy, as_json=as_json)


@rewards.command()
def fit(
    rows: Annotated[Path, typer.Argument(metavar="DATA", help="Labelled answers or pairs: JSON, CSV or Parquet.")],
    out: Annotated[Path, typer.Option(metavar="MODEL.json", help="Where the model is written.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="How the rows are read, as in `data`: rows=xstest"),
    ] = None,
    also: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A further file of the same rows.")] = None,
    strength: Annotated[float, typer.Option(min=1e-6, help="Larger = weights are held to zero less.")] = 1.0,
    least: Annotated[int, typer.Option(min=1, help="In how many texts a word must stand.")] = 2,
    first: Annotated[
        int | None, typer.Option(min=1, help="Read so many words of each answer, for policies that are cut there.")
    ] = None,
) -> None:
    """Fit a model of words to labelled answers or pairs, for rewards of type word_model and refusal."""
    from klimb.cli import fitting
    from klimb.rewards.word_fitting import Fit

    fitting.fit([rows, *(also or [])], out, words or [], Fit(strength, least, first))


@rewards.command("best-of")
def best_of(
    target: Annotated[
        str, typer.Argument(metavar="RUN_OR_MODEL", help="A run directory, a model folder or a model name.")
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings over the recipe's.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many answers are drawn to each problem.")] = 8,
    recipe: Annotated[str | None, typer.Option(help="The recipe whose problems and rewards are used.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="The checkpoint of a run; by default the newest.")] = None,
    learn: Annotated[bool, typer.Option("--learn", help="Let the combining learn while it chooses.")] = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all of it as JSON.")
    ] = None,
) -> None:
    """Choose the best of n answers by the rewards, for each n: does choosing harder bring more that is correct?"""
    from klimb.cli import reranking

    reranking.best_of(target, words or [], reranking.Wanted(n, recipe, step, learn), as_json)
