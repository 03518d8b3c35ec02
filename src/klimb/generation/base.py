"""What every generator is: it answers requests with completions, and its draws depend on their seeds only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from klimb.config import Settings
from klimb.errors import KlimbError
from klimb.types import Completion, Transform

if TYPE_CHECKING:
    from klimb.policy.policy import Policy


class Forking(Settings):
    """Two temperatures: one where the policy is uncertain, one elsewhere (2506.01939, section 4)."""

    threshold: Annotated[float, Field(ge=0.0)] = 0.672
    """Nats of the policy's own entropy, at temperature 1, above which `high` is used."""
    high: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """The temperature above the threshold; 0 = greedy."""
    low: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """The temperature at the threshold and under it; 0 = greedy."""


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
    forking: Forking | None = None
    """A decoding experiment of the local generator; stands in for `temperature`, which must be 1."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; the token that completes one is kept, and the text is cut before the string."""

    @property
    def transform(self) -> Transform:
        """What this does to the policy's distribution."""
        one = self.forking
        two = None if one is None else (one.threshold, one.high, one.low)
        return Transform(self.temperature, self.top_p, self.top_k, forking=two)

    def faults(self) -> list[KlimbError]:
        """Two temperatures and a third do not go together."""
        if self.forking is None or self.temperature == 1.0:
            return []
        found = f"temperature={self.temperature:g} beside forking, which has its own two"
        return [KlimbError("sample with sampling.forking", found, "sampling.temperature=1.0")]

    def unweighable(self) -> Iterator[KlimbError]:
        """Why what is drawn so has no importance weights to correct it by."""
        asked = "correct for the sampler by importance weights"
        if self.forking is not None:
            found = "sampling.forking draws from another distribution than the policy that learns"
            yield KlimbError(asked, found, "sampling.forking=null, or training.correction.type=none")
        if self.transform.truncates:
            found = (
                "sampling.top_p or sampling.top_k gives some tokens probability zero, so the weights are not defined"
            )
            yield KlimbError(asked, found, "sampling.top_p=1.0 sampling.top_k=0, or training.correction.type=none")


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
