"""What a recipe costs, before anything runs: rows, tokens, optimizer steps, evaluations, memory, disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from klimb.cli.sizes import Sizes, sizes_of
from klimb.crew import copies_of
from klimb.errors import DataError
from klimb.sources.given import Given
from klimb.sources.hybrid import Hybrid
from klimb.sources.iterative_pairs import IterativePairs
from klimb.sources.online_pairs import OnlinePairs
from klimb.sources.replayed import Replayed

if TYPE_CHECKING:
    from klimb.recipe import Recipe

BASE_GB = 0.5
"""What Python, torch and transformers take before any model is there, about."""
PROMPT_GUESS = 100
"""Tokens of a prompt, for the cache: the true number is known only once a tokenizer is there."""


def arithmetic(recipe: Recipe, strict: bool = True) -> list[str]:
    """The sums, a line each. Opens the data and the logs, and reads the model's sizes from its files, without torch.

    What cannot be read raises DataError; where not `strict`, its line says why it is not known.
    """
    sizes, critic = sizes_of(recipe.model, recipe.source.speaks(recipe.objective.reads_logp)), _critic(recipe)
    return [
        _step(recipe),
        *_pairs(recipe),
        *_read("replay", _replay, recipe, strict),
        _learning(recipe),
        _run(recipe),
        *_read("data", _data, recipe, strict),
        _evaluation(recipe),
        _checkpoints(recipe, sizes, critic),
        _memory(recipe, sizes, critic),
    ]


def _read(name: str, lines: Callable[[Recipe], list[str]], recipe: Recipe, strict: bool) -> list[str]:
    """Lines that need files; where they cannot be read and that is no error, the reason in their place."""
    try:
        return lines(recipe)
    except DataError as fault:
        if strict:
            raise
        return [f"{name:<12} not known: {fault.line()}"]


def _prompts(recipe: Recipe) -> int:
    """The prompts of a step: of its groups, or those that are sampled for it where they are more."""
    return recipe.source.prompts if isinstance(recipe.source, IterativePairs) else _drawn(recipe)


def _drawn(recipe: Recipe) -> int:
    """The most prompts that are sampled at once, and no fewer than a step's groups."""
    return max(recipe.source.prompts, recipe.source.sampled(1) or 0)


def _rows(recipe: Recipe) -> int:
    return _prompts(recipe) * recipe.source.completions


def _updates(recipe: Recipe) -> int:
    return recipe.source.epochs * recipe.source.minibatches


def _step(recipe: Recipe) -> str:
    source, longest = recipe.source, recipe.sampling.max_tokens
    rows = _rows(recipe)
    if isinstance(source, IterativePairs):
        return _round(recipe, source)
    if source.replays:
        return f"a step       {source.prompts} groups x at most {source.completions} answers = at most {rows} rows"
    if not source.draws:
        return (
            f"a step       {source.prompts} prompts x at most {source.completions} given answers = at most {rows} rows"
        )
    return (
        f"a step       {_prompts(recipe)} prompts x {source.completions} completions = {rows} rows, "
        f"of at most {longest} tokens = at most {rows * longest:,} completion tokens"
    )


def _round(recipe: Recipe, source: IterativePairs) -> str:
    """How much a round samples, and how many rounds the steps are."""
    (rounds, left), rows = divmod(recipe.training.steps, source.length), source.batches * _rows(recipe)
    rest = f", and {left} {_s('step', left)} of one more" if left else ""
    return (
        f"a round      {source.batches} batches x {source.prompts} prompts x {source.completions} completions = "
        f"{rows:,} rows drawn at its start, of at most {recipe.sampling.max_tokens} tokens; "
        f"{source.batches} batches x {source.passes} {_s('pass', source.passes)} = {source.length} steps; "
        f"{rounds} {_s('round', rounds)}{rest}"
    )


def _pairs(recipe: Recipe) -> list[str]:
    """How many pairs of samples a step learns from."""
    source = recipe.source
    if not isinstance(source, OnlinePairs):
        return []
    each, rows = source.learned // 2, source.prompts * source.learned
    many = f"at most {each} {_s('pair', each)} a prompt = {rows // 2} pairs a step, {rows} rows that learn"
    return [f"pairs        {source.pairing.type}: {many}"]


def _learning(recipe: Recipe) -> str:
    source, size = recipe.source, recipe.training.micro_tokens
    prompts = math.ceil(_prompts(recipe) / source.minibatches)
    tokens = prompts * (PROMPT_GUESS + source.learned * recipe.sampling.max_tokens)
    parts = math.ceil(tokens / size)
    return (
        f"learning     {source.epochs} {_s('epoch', source.epochs)} x {source.minibatches} "
        f"{_s('minibatch', source.minibatches)} = {_updates(recipe)} optimizer {_s('step', _updates(recipe))} a step; "
        f"each in about {parts} {_s('part', parts)} of {size:,} tokens, a prompt taken as {PROMPT_GUESS}"
    )


def _run(recipe: Recipe) -> str:
    steps, rows = recipe.training.steps, _sampled(recipe)
    return (
        f"the run      {steps:,} steps = {steps * _updates(recipe):,} optimizer steps, {rows:,} completions, "
        f"at most {rows * recipe.sampling.max_tokens:,} tokens sampled"
    )


def _asked(recipe: Recipe) -> int:
    """How many prompts the sampler is asked in training in the whole run."""
    source = recipe.source
    if not source.draws:
        return 0
    asked = (source.sampled(step) for step in range(1, recipe.training.steps + 1))
    return sum(source.prompts if count is None else count for count in asked)


def _sampled(recipe: Recipe) -> int:
    """How many answers are sampled in training in the whole run."""
    return _asked(recipe) * recipe.source.completions


def _replay(recipe: Recipe) -> list[str]:
    """What is drawn earlier: how many groups, out of which log."""
    from klimb.session import check_logs

    if not recipe.source.replays:
        return []
    groups, asked = recipe.training.steps * recipe.source.prompts, _asked(recipe)
    share = f"{groups - asked:,} of {groups:,} groups of the run are replayed, {asked:,} sampled"
    log = check_logs(recipe)
    where = f"; {recipe.source.logs}: {log}" if log and isinstance(recipe.source, Replayed | Hybrid) else ""
    return [f"replay       {share}{where}"]


def _data(recipe: Recipe) -> list[str]:
    from klimb.session import problems_of

    problems = problems_of(recipe)
    train, held_out, more = len(problems.train), len(problems.held_out), len(problems.unlabelled)
    learned = recipe.training.steps * recipe.source.prompts
    passes = (learned if isinstance(recipe.source, Given) else min(_asked(recipe), learned)) / train
    beside = f"; {more:,} unlabelled" if more else ""
    return [
        f"data         {train:,} prompts to learn from, visited {passes:.3g} times each; {held_out:,} held out{beside}"
    ]


def _evaluation(recipe: Recipe) -> str:
    last, exam = recipe.training.steps, recipe.evaluation
    times = sum(exam.due(step, last) for step in range(last + 1))
    if recipe.scorer:
        read = f"{times} times x at most {exam.problems} held-out pairs are read, nothing is sampled"
        none = f"none: a reward model answers nothing, and data.type={recipe.data.type} has no pairs to read"
        return f"evaluation   {read if recipe.data.answers else none}"
    asked = times * exam.problems
    share = asked / max(asked + _sampled(recipe), 1)
    return (
        f"evaluation   {times} times x at most {exam.problems} held-out problems = {asked:,} completions, "
        f"{100 * share:.0f} % of all that are sampled"
    )


def _critic(recipe: Recipe) -> Sizes | None:
    """The sizes of a critic's own model: none where it has none, None where they are not known."""
    wanted = recipe.objective.value_model
    if wanted is None:
        return Sizes(0, 0, 0, False)
    return sizes_of(recipe.model.at(wanted.path) if wanted.path else recipe.model, speaks=False)


def _checkpoints(recipe: Recipe, sizes: Sizes | None, critic: Sizes | None) -> str:
    saves = math.ceil(recipe.training.steps / recipe.checkpoints.every)
    kept = min(saves, recipe.checkpoints.keep)
    disk = f", about {_gb((kept + 1) * 12 * (sizes.weights + critic.weights))} of disk" if sizes and critic else ""
    return f"checkpoints  {saves} {_s('save', saves)}, the newest {kept} kept{disk}"


def _memory(recipe: Recipe, sizes: Sizes | None, critic: Sizes | None) -> str:
    """An estimate: what stands for each weight is counted, the rest is a rule of thumb (4 % above one measured run)."""
    if sizes is None:
        return f"memory       not known: the files of {recipe.model.name} are not on this machine"
    if critic is None:
        return "memory       not known: the files of objective.value.path are not on this machine"
    half, share = sizes.halved, 2 if sizes.halved else 4
    each = share + (4 + 8 + 4 if half else 8 + 4)  # model, masters, moments, gradients
    copies, drawn = copies_of(recipe), 0 if recipe.scorer else 1  # a sampler has a copy of what it draws with
    weights = sizes.weights * (each + share * (copies + drawn)) + critic.weights * each
    cache = _at_once(recipe) * (recipe.sampling.max_tokens + PROMPT_GUESS) * sizes.cache_bytes
    kept = (sizes.kept_bytes + critic.kept_bytes) / (10 if recipe.model.checkpointing else 1)
    largest = min(recipe.training.micro_tokens, _rows(recipe) * (recipe.sampling.max_tokens + PROMPT_GUESS))
    total = BASE_GB * 1e9 + weights + max(cache, largest * kept)
    many = f"{(sizes.weights + critic.weights) / 1e6:,.1f} M weights"
    many += f" ({critic.weights / 1e6:,.1f} M of the critic's own model)" if critic.weights else ""
    many += " with their optimizer" + (f", and {copies} x frozen," if copies else "")
    where = "bfloat16 with float32 masters" if half else "float32"
    return (
        f"memory       about {_gb(total)}: {many} in {where} "
        f"{_gb(weights)}, activations {_gb(largest * kept)}{f' or sampling cache {_gb(cache)}' if cache else ''}, "
        f"the rest {BASE_GB} GB"
    )


def _at_once(recipe: Recipe) -> int:
    """The most answers that are decoded together: those of training, or where nothing is drawn there, held-out ones."""
    if recipe.scorer:
        return 0
    asked = _drawn(recipe) * recipe.source.completions if recipe.source.draws else recipe.evaluation.problems
    return int(min(asked, getattr(recipe.generator, "rows", asked)))


def _gb(count: float) -> str:
    if count < 1e8:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e9:.2f} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"


def _s(word: str, count: int) -> str:
    return word if count == 1 else word + ("es" if word in ("minibatch", "pass") else "s")
