"""`klimb logs` and `klimb data`: experience and data that are there before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Words = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings over the recipe's.")]

logs = typer.Typer(help="Check and import logs of other policies.", rich_markup_mode=None)
data = typer.Typer(help="Look at data before training on it.", rich_markup_mode=None)


@logs.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A rollouts file.")],
    every: Annotated[bool, typer.Option("--all", help="Every fault, and not the first 20 alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check a rollouts file: its faults by row and field, each with its cure."""
    from klimb.cli import logging

    if not logging.check(file, every=every, as_json=as_json):
        raise typer.Exit(3)


@logs.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, a JSON list or Parquet.")],
    out: Annotated[Path, typer.Option(metavar="OUT.parquet", help="The rollouts file to write.")],
    mapping: Annotated[
        str, typer.Option("--map", metavar="MAP", help="chat, trl, verl, slime, openai, or a YAML file.")
    ],
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Whose tokenizer, where the log has no token ids.")
    ] = None,
    estimate: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Whose log-probs stand in for those that are missing.")
    ] = None,
    refused: Annotated[
        Path | None, typer.Option(metavar="LIST.jsonl", help="Where rows are listed; by default OUT.rows.jsonl.")
    ] = None,
) -> None:
    """Make a rollouts file of another system's log; rows that cannot be used are listed by reason."""
    from klimb.cli import logging

    logging.import_(file, out, mapping, logging.Models(tokenizer, estimate), refused)


@data.command()
def inspect(  # noqa: PLR0913 typer reads the options from the signature
    logs: Annotated[Path, typer.Argument(metavar="FILE", help="Rollouts, a run; preference rows, or their recipe.")],
    words: Words = None,
    policy: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The policy that is to learn: a run, a folder or a name.")
    ] = None,
    most: Annotated[
        int, typer.Option("--most", min=1, help="How many rows the policy is asked about, at most; drawn at random.")
    ] = 256,
    temperature: Annotated[
        float, typer.Option(min=0.01, help="At which the policy is to learn: the run's sampling.temperature.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of that draw, and of the policy's own answers.")] = 0,
    success: Annotated[float, typer.Option(help="A reward of at least this is a success.")] = 1.0,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all of it as JSON.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--rows", metavar="FORM", help="Preference rows: pairs, labelled, hh, pandalm, llmbar, xstest."),
    ] = None,
    cut: Annotated[
        tuple[int, int] | None, typer.Option(metavar="N M", help="Count prompts over N and answers over M tokens.")
    ] = None,
) -> None:
    """Say what logs or preference rows hold, and whether they are enough to learn from."""
    from klimb.cli import logging, preferring

    if form is not None or words or logs.suffix in preferring.RECIPES:
        preferring.inspect(logs, preferring.Wanted(form, policy, cut), words or [], as_json=as_json)
        return
    wanted = logging.Wanted(policy, success, most, seed, temperature)
    logging.inspect(logs, wanted, as_json=as_json, html=html)
