"""What every data source is: settings that open into prompts with checkable answers, some of them held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from klimb.config import Settings
from klimb.types import Message, Prompt, Reply

Question = str | tuple[Message, ...]
"""What is asked: a text, or a conversation that ends with the user's turn."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its answer, shown before the one that is asked."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Problems:
    """The prompts to learn from and those held out. No question stands on both sides."""

    train: Sequence[Prompt]
    held_out: Sequence[Prompt]
    identity: str = ""
    """What the prompts depend on, where they are made one by one; empty = hash all of them."""
    given: Mapping[str, tuple[Reply, ...]] = field(default_factory=dict)
    """The answers that the data give, by the prompt's id, where they are preferences or examples."""
    unlabelled: Sequence[Prompt] = ()
    """Further prompts to draw samples for, out of a file of their own."""

    def fingerprint(self) -> str:
        """A hash of the whole content, hexadecimal: the same exactly when every prompt is the same, in order."""
        digest = hashlib.sha256(self.identity.encode("utf-8", "surrogatepass"))
        sides = (self.held_out,) if self.identity else (self.train, self.held_out)
        for side in (*sides, self.unlabelled) if self.unlabelled else sides:
            digest.update(b"\x1e")
            for prompt in side:
                digest.update(_content(prompt))
                if prompt.id in self.given:
                    digest.update(repr(self.given[prompt.id]).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def _content(prompt: Prompt) -> bytes:
    turns = [(message.role, message.content) for message in prompt.messages]
    content = [prompt.id, turns, prompt.text, prompt.answer, dict(prompt.metadata)]
    return json.dumps(content, sort_keys=True, default=str).encode("ascii") + b"\x1f"


class Data(Settings):
    """A data source's settings; `open` gives the problems."""

    answers: ClassVar[bool] = False
    """Whether it gives answers to learn from."""
    form: Literal["chat", "text"] = "chat"
    """How a question is put: as a user's turn through the model's chat template, or as plain text to go on with."""
    system: str | None = None
    """A system message before each chat; none = what the model's settings say."""
    frame: str = "{question}"
    """What is written around each question, for example "Question: {question}\\nAnswer:"."""
    shots: Annotated[int, Field(ge=0, le=64)] = 0
    """How many solved examples come before each question, always the same ones, never held-out ones."""

    def open(self) -> Problems:
        """Reads or makes the problems. Raises DataError."""
        raise NotImplementedError

    def ask(
        self,
        name: str,
        question: Question,
        answer: str | None,
        examples: Sequence[Example] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """The prompt with id `name`: the question in its frame, after the examples, in this source's form."""
        kept = {} if metadata is None else metadata
        if isinstance(question, str) and self.form == "text":
            shown = "".join(f"{self._framed(example.question)} {example.answer}\n" for example in examples)
            return Prompt(name, text=shown + self._framed(question), answer=answer, metadata=kept)
        turns = (Message("user", self._framed(question)),) if isinstance(question, str) else question
        return Prompt(name, messages=self._before(examples, turns) + turns, answer=answer, metadata=kept)

    def _before(self, examples: Sequence[Example], turns: tuple[Message, ...]) -> tuple[Message, ...]:
        system = () if self.system is None or turns[0].role == "system" else (Message("system", self.system),)
        pairs = ((Message("user", self._framed(one.question)), Message("assistant", one.answer)) for one in examples)
        return system + tuple(message for pair in pairs for message in pair)

    def _framed(self, question: str) -> str:
        return self.frame.replace("{question}", question)
