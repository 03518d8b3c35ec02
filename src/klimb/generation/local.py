"""The local generator: the policy samples in this process, on its own device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb.generation.base import Generator

if TYPE_CHECKING:
    from klimb.generation.engine.sampler import LocalSampler
    from klimb.policy.policy import Policy


class Local(Generator):
    """Samples from the policy itself, without a server or a second model."""

    type: Literal["local"] = "local"
    """The kind of generator."""
    rows: Annotated[int, Field(ge=1, le=65536)] = 64
    """The most completions that are decoded together; more is faster and takes more memory."""
    engine: Literal["auto", "fast", "plain"] = "auto"
    """`fast` reads the weights of Llama-like models itself; `plain` runs the model's own forward; `auto` checks which
    one the model allows."""

    def open(self, policy: Policy) -> AbstractContextManager[LocalSampler]:
        """The sampler on this policy. Raises GenerationError where `fast` is asked for and does not fit."""
        return _opened(self, policy)


@contextmanager
def _opened(settings: Local, policy: Policy) -> Iterator[LocalSampler]:
    from klimb.generation.engine.choose import choose
    from klimb.generation.engine.sampler import LocalSampler

    engine = choose(policy.model, settings.engine)
    try:
        yield LocalSampler(policy, engine, settings.rows)
    finally:
        engine.stop()
