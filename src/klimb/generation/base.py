"""What every generator is: it answers requests with completions, and its draws depend on their seeds only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from klimb.config import Settings
from klimb.types import Completion, Transform

if TYPE_CHECKING:
    from klimb.policy.policy import Policy


class Sampling(Settings):
    """How completions are drawn."""

    temperature: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """The temperature that divides the logits; 0 = greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Keep the smallest set of likeliest tokens whose mass reaches this; 1 = all."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep this many likeliest tokens; 0 = all."""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    """The most tokens a completion may have, its EOS included."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; the token that completes one is kept, and the text is cut before the string."""

    @property
    def transform(self) -> Transform:
        """What this does to the policy's distribution."""
        return Transform(self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt's token ids and one seed for each completion that is wanted of it."""

    tokens: tuple[int, ...]
    seeds: tuple[int, ...]


class Sampler(Protocol):
    """An opened generator."""

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Completion, ...]]:
        """For each request one completion per seed, in order.

        A completion depends on its request's tokens, its seed, the sampling settings and the policy: not on the other
        requests (beyond float rounding). Raises GenerationError.
        """
        ...

    def describe(self) -> str:
        """Which way of sampling was chosen and why, in words."""
        ...

    def refresh(self) -> None:
        """The policy's weights have changed: what is sampled from now on comes from the new ones."""
        ...


class Generator(Settings):
    """A generator's settings; `open` gives the sampler."""

    def open(self, policy: Policy) -> AbstractContextManager[Sampler]:
        """Opens the sampler on a policy and frees what it holds at the end."""
        raise NotImplementedError
