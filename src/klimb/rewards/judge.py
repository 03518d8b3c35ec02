"""A language model as a judge, at any server with OpenAI's chat protocol: a checked verdict, or a named failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Literal

from pydantic import Field

from klimb.errors import GenerationError, KlimbError, RewardError
from klimb.generation.endpoint import Endpoint
from klimb.rewards.base import Reward, Scorer


class Judge(Endpoint, Reward):
    """What a judge thinks of an answer, from 0 to 1: its grade over `best`, or whether it prefers it to a reference.

    A verdict that does not fit the schema is unscorable; a server that is not reached is infra_failed, and after `fuse`
    failed calls in a row the rest of a batch is not asked. Equal questions are asked once. What has no word in it, and
    openings that are known to move judges (2507.08794), get 0 unasked.
    """

    type: Literal["judge"] = "judge"
    """The kind of source."""
    rubric: Annotated[str, Field(min_length=1)] = (
        "The reply is correct, answers what was asked, and is no longer than it needs to be."
    )
    """What is judged, in words."""
    against: Literal["nothing", "answer"] = "nothing"
    """`nothing`: a grade. `answer`: which is better, the reply or the problem's answer, asked in both orders: 1 where
    the reply wins both, 0 where it loses both, else 0.5."""
    best: Annotated[int, Field(ge=1, le=100)] = 10
    """The best grade; the worst is 0."""
    max_tokens: Annotated[int, Field(ge=16)] = 512
    """The most tokens of a verdict, its reason included."""
    schema_sent: bool = True
    """Send the verdict's JSON schema with the question (`response_format`); for servers that know none, false."""
    budget: Annotated[int | None, Field(ge=1)] = None
    """The most calls that this process may make; later ones fail."""
    fuse: Annotated[int, Field(ge=1)] = 5
    """After so many failed calls in a row the others of a batch are not made; the next batch begins with one."""

    def faults(self) -> list[KlimbError]:
        """A comparison has no grade."""
        if self.against == "nothing" or self.best == type(self).model_fields["best"].default:
            return []
        asked = f"grade answers from 0 to {self.best} (best)"
        return [KlimbError(asked, "against=answer, which compares alone", "against=nothing, or leave best out")]

    def open(self) -> AbstractContextManager[Scorer]:
        """The judge. Raises RewardError where its key is missing or meant for another host."""
        return _opened(self)


@contextmanager
def _opened(judge: Judge) -> Iterator[Scorer]:
    from klimb.rewards.judging import Judging

    try:
        server = judge.server()
    except GenerationError as error:
        raise RewardError(error.asked, error.found, error.cure) from error
    yield Judging(judge, server)
