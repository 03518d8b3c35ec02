"""The commands and their options; each does its work in a module of its own, imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from klimb.cli.logs import Words, data, logs
from klimb.cli.rewards import rewards
from klimb.cli.study import study

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of one in recipes/.")]
Target = Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run directory, a model folder or a model name.")]

app = typer.Typer(
    help="Trains language models by reinforcement learning, with gradients that are proved.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(logs, name="logs")
app.add_typer(data, name="data")
app.add_typer(rewards, name="rewards")
app.add_typer(study, name="study")


def command() -> Any:
    """The whole command line as one click command."""
    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        from klimb import __version__

        print(f"klimb {__version__}")
        raise typer.Exit


@app.callback()
def _klimb(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Trains language models by reinforcement learning, with gradients that are proved."""


@app.command()
def train(
    recipe: RecipeName,
    words: Words = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the settings and what they cost; run nothing.")
    ] = False,
    fork: Annotated[
        str | None, typer.Option(metavar="RUN@STEP", help="Start from a checkpoint of another run.")
    ] = None,
) -> None:
    """Train, or go on with a run that was interrupted."""
    from klimb.cli import training

    training.train(recipe, words or [], dry_run=dry_run, fork=fork)


@app.command()
def evaluate(
    target: Target,
    words: Words = None,
    recipe: Annotated[str | None, typer.Option(help="The recipe whose held-out problems are asked.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="The checkpoint of a run; by default the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure held-out accuracy."""
    from klimb.cli import evaluating

    evaluating.evaluate(target, words or [], recipe=recipe, step=step, as_json=as_json)


@app.command()
def sample(  # noqa: PLR0913 typer reads the options from the signature
    target: Target,
    prompt: Annotated[str | None, typer.Argument(help="A question; by default stdin, or a chat on a terminal.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="The checkpoint of a run; by default the newest.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, max=10.0, help="0 = the likeliest tokens.")] = 1.0,
    top_p: Annotated[float, typer.Option(min=1e-6, max=1.0, help="Keep this much of the probability.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answer.")] = 0,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Go on with the text as it is, without a chat template.")
    ] = False,
    best_of: Annotated[int, typer.Option(min=1, help="The best of so many answers, by the rewards of the run.")] = 1,
) -> None:
    """Talk to a model, or to the policy of a run."""
    from klimb.cli import sampling

    wanted = sampling.Wanted(temperature, top_p, max_tokens, seed, system, text, best_of)
    sampling.sample(target, prompt, wanted, step)


@app.command()
def pull(name: Annotated[str, typer.Argument(metavar="MODEL", help="Such as smollm2-135m.")]) -> None:
    """Get a known model into the cache; nothing to do where it is there."""
    from klimb.policy.pull import pull as pull_model

    print(pull_model(name))


@app.command()
def explain(
    name: Annotated[
        str | None, typer.Argument(metavar="[KEY_OR_RECIPE]", help="Such as optimizer.lr, or demo.")
    ] = None,
) -> None:
    """Explain a setting, a section or a recipe."""
    from klimb.cli import explaining

    print(explaining.explain(name))


@app.command()
def doctor(
    recipe: Annotated[str | None, typer.Argument(help="Also check what this recipe needs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check the machine: versions, devices, arithmetic, memory, disk, cache, endpoints."""
    from klimb.cli import checks

    if not checks.doctor(recipe, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Make a run's report.html again."""
    from klimb.cli import reporting

    print(reporting.report(run))


@app.command()
def prove(
    objective: Annotated[
        str | None, typer.Argument(metavar="[OBJECTIVE]", help="Such as grpo, or my.py:my_loss for a file of yours.")
    ] = None,
    words: Words = None,
    every: Annotated[bool, typer.Option("--all", help="Every objective, on- and off-policy.")] = False,
    off_policy: Annotated[
        bool, typer.Option("--off-policy", help="With a policy that has moved; with --all, those rows alone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list of rows.")] = False,
) -> None:
    """Prove what an objective's gradient is, by summing over every answer; exits with 1 where a row does not hold."""
    from klimb.cli import proving

    if not proving.prove(objective, words or [], every=every, off_policy=off_policy, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def lens(  # noqa: PLR0913 typer reads the options from the signature
    target: Annotated[Path, typer.Argument(metavar="RUN_OR_FILE", help="A run directory, or JSONL with --model.")],
    out: Annotated[Path | None, typer.Option(help="The page; by default lens.html in the run.")] = None,
    step: Annotated[int | None, typer.Option(min=1, help="The step; by default the newest.")] = None,
    against: Annotated[Path | None, typer.Option(metavar="RUN", help="Another run beside it.")] = None,
    against_step: Annotated[int | None, typer.Option(min=1, help="Another step beside it.")] = None,
    model: Annotated[str | None, typer.Option(help="Scores a file of prompt and completion rows.")] = None,
    least: Annotated[int | None, typer.Option(min=1, help="How often a token string must occur to be listed.")] = None,
    numbers: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="All numbers too.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The figures too, as SVG and PNG.")] = None,
) -> None:
    """Look at a step token by token: entropy, ratio, KL, advantage, alternatives, on one page."""
    from klimb.cli import lensing

    outputs = lensing.Outputs(out, numbers, plots)
    print(lensing.lens(lensing.Wanted(target, model, step, against, against_step, least), outputs))
