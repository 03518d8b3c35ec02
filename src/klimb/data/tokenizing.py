"""What a tokenizer and chat template make of preference rows: what would be cut, and what does not come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Protocol

from klimb.data.base import Problems
from klimb.errors import DataError, KlimbError
from klimb.types import Encode, Prompt


class Tokenizes(Protocol):
    """What is asked of a policy here."""

    eos_ids: frozenset[int]

    @property
    def context(self) -> int:
        """The most tokens a prompt and its answer may have together."""
        ...

    def tokens_of(self, prompt: Prompt) -> tuple[int, ...]:
        """The rendered prompt, however long. Raises DataError, ModelError."""
        ...

    def again(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens of their own text."""
        ...


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Rows by what happens to them. `first` names one prompt for each count that is not zero."""

    prompts: int
    answers: int
    prompts_cut: int
    answers_cut: int
    too_long: int
    unrendered: int
    changed: int
    eos_within: int
    unread: int
    first: Mapping[str, str]

    def record(self) -> dict[str, object]:
        """All of it as JSON would have it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The same in words."""
        cut = f"{self.prompts_cut:,} of {self.prompts:,} prompts and {self.answers_cut:,} of {self.answers:,} answers"
        told = {
            "too_long": f"{self.too_long:,} rows do not fit into the model's context",
            "unrendered": f"{self.unrendered:,} prompts cannot be rendered by the model's chat template",
            "changed": f"{self.changed:,} rendered prompts become other tokens when read as text and tokenized again",
            "eos_within": f"{self.eos_within:,} answers have EOS inside: what follows it would be learned, never drawn",
        }
        if self.unread:
            told["unread"] = f"{self.unread:,} answers cannot be read as text, and training refuses their rows"
        rest = [f"{text}{self._such_as(name)}" for name, text in told.items()]
        return [
            f"cut         {cut}{self._such_as('cut')}",
            f"template    {rest[0]}",
            *(" " * 12 + one for one in rest[1:]),
        ]

    def _such_as(self, name: str) -> str:
        return f", such as {self.first[name]!r}" if name in self.first else ""


def tokenized(
    problems: Problems,
    policy: Tokenizes,
    encode: Encode,
    prompt_tokens: int | None = None,
    answer_tokens: int | None = None,
) -> Tokenized:
    """Renders and tokenizes every row as training would, cutting at these lengths; None = nothing is cut.

    A rendered prompt comes back where its text, special tokens written out, gives the same tokens again. Of answers
    that `encode` refuses there is no other count.
    """
    counts = dict.fromkeys((one.name for one in fields(Tokenized) if one.name != "first"), 0)
    first: dict[str, str] = {}
    for prompt in (*problems.train, *problems.held_out):
        given = [_read(encode, prompt, reply.text) for reply in problems.given[prompt.id]]
        answers = [one for one in given if one is not None]
        found = _looked(policy, prompt, answers, prompt_tokens, answer_tokens)
        found |= {"answers": len(given), "unread": len(given) - len(answers)}
        for name, times in found.items():
            counts[name] += times
            if times:
                first.setdefault("cut" if name.endswith("_cut") else name, prompt.id)
    return Tokenized(
        **counts, first={name: where for name, where in first.items() if name not in ("prompts", "answers")}
    )


def _read(encode: Encode, prompt: Prompt, text: str) -> tuple[int, ...] | None:
    """An answer's tokens; None where it is not read."""
    try:
        return encode(prompt, text)
    except DataError:
        return None


def _looked(
    policy: Tokenizes, prompt: Prompt, answers: list[tuple[int, ...]], most: int | None, most_of_answer: int | None
) -> dict[str, int]:
    """One row's part in every count."""
    sizes = [min(len(answer), most_of_answer or len(answer)) for answer in answers]
    found = {
        "prompts": 1,
        "answers_cut": sum(size < len(answer) for size, answer in zip(sizes, answers, strict=True)),
        "eos_within": sum(bool(policy.eos_ids & set(answer[:-1])) for answer in answers),
    }
    try:
        tokens = policy.tokens_of(prompt)
    except KlimbError:
        return found | {"unrendered": 1}
    kept = min(len(tokens), most or len(tokens))
    return found | {
        "prompts_cut": int(kept < len(tokens)),
        "too_long": int(kept + max(sizes, default=0) > policy.context),
        "changed": int(policy.again(tokens) != tokens),
    }
