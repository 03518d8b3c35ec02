"""`klimb sample`: one answer to a question, or a conversation on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from klimb.cli.places import Place, place
from klimb.cli.text import printable
from klimb.errors import KlimbError, SettingsError
from klimb.types import Message, Prompt

HELP = "/new starts again, /quit (or Ctrl-D) ends"
LONGEST = 1_000_000
"""The most characters that are read from stdin."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How answers are drawn."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    system: str | None
    text: bool
    best_of: int = 1
    """How many answers the run's rewards choose among."""


Answer = Callable[[Prompt, int], str]


def sample(target: str, question: str | None, wanted: Wanted, step: int | None = None) -> None:
    """Answers the question (an argument, or stdin), or chats where both ends are a terminal. Raises KlimbError."""
    where = place(target, step)
    chats = question is None and sys.stdin.isatty() and sys.stdout.isatty() and not wanted.text
    asked = "" if chats else _question(question)
    for note in where.notes:
        print(f"klimb: {note}", file=sys.stderr)
    with _opened(where, wanted, chats) as answer:
        if chats:
            _chat(answer, wanted, where.model)
            return
        prompt = Prompt("sample", text=asked) if wanted.text else Prompt("sample", messages=_turns(wanted, asked))
        print(printable(answer(prompt, 0)))


def _question(question: str | None) -> str:
    """What is asked, from the argument or stdin. Raises SettingsError where there is nothing."""
    text = sys.stdin.read(LONGEST + 1) if question is None else question
    if not text.strip() or len(text) > LONGEST:
        found = "nothing" if not text.strip() else f"over {LONGEST:,} characters"
        raise SettingsError([KlimbError("there must be a question", found, 'klimb sample MODEL "What is 2 + 3?"')])
    return text if question is not None else text.removesuffix("\n")


@contextmanager
def _opened(where: Place, wanted: Wanted, many: bool) -> Iterator[Answer]:
    """A function that answers the prompt of turn k; the fast engine takes seconds to set up, so only for `many`."""
    if wanted.best_of > 1:
        with _picked(where, wanted) as answer:
            yield answer
        return
    from klimb.generation.base import Request, Sampling
    from klimb.generation.local import Local
    from klimb.policy.loading import load
    from klimb.seeds import draw_seed

    policy = load(where.settings, wanted.seed)
    drawn = Sampling(temperature=wanted.temperature, top_p=wanted.top_p, max_tokens=wanted.max_tokens)

    with Local(rows=1, engine="auto" if many else "plain").open(policy) as sampler:

        def answer(prompt: Prompt, turn: int) -> str:
            seeds = (draw_seed(wanted.seed, turn, prompt.id, 0),)
            return sampler.sample([Request(policy.render(prompt).tokens, seeds)], drawn)[0][0].text

        yield answer


@contextmanager
def _picked(where: Place, wanted: Wanted) -> Iterator[Answer]:
    """The same, choosing by the rewards of the run. Raises SettingsError where it is none."""
    from klimb.generation.base import Sampling
    from klimb.reranking import check, picking

    if where.recipe is None:
        cure = "a run directory, or leave --best-of out"
        raise SettingsError([KlimbError(f"rewards to choose the best of {wanted.best_of} by", where.model, cure)])
    drawn = Sampling(temperature=wanted.temperature, top_p=wanted.top_p, max_tokens=wanted.max_tokens)
    recipe = where.recipe.model_copy(update={"model": where.recipe.model.at(where.model)})
    check(recipe, wanted.best_of, drawn.temperature)
    n, initial, kept = wanted.best_of, where.recipe.model, where.combining
    with picking(recipe, n, drawn, wanted.seed, step=where.step, initial=initial, kept=kept) as answer:
        yield answer


def _turns(wanted: Wanted, question: str) -> tuple[Message, ...]:
    system = () if wanted.system is None else (Message("system", wanted.system),)
    return (*system, Message("user", question))


def _chat(answer: Answer, wanted: Wanted, model: str) -> None:
    """A conversation; what went before is asked again with each turn."""
    print(printable(f"{model}; {HELP}"))
    turns: tuple[Message, ...] = _turns(wanted, "")[:-1]
    count = 0
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            print()
            return
        if said in ("/quit", "/exit"):
            return
        if said == "/new":
            turns = _turns(wanted, "")[:-1]
        if not said or said.startswith("/"):
            print(HELP if said != "/new" else "a new conversation")
            continue
        asked = (*turns, Message("user", said))
        try:
            reply = answer(Prompt("chat", messages=asked), count)
        except KlimbError as error:
            print(printable(f"klimb: {error.line()}"), file=sys.stderr)
            continue
        count += 1
        turns = (*asked, Message("assistant", reply))
        print(printable(reply))
