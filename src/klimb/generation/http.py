"""The generator behind HTTP: any server with the OpenAI completions protocol that takes and gives token ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Literal

from klimb.generation.base import Generator
from klimb.generation.endpoint import Endpoint

if TYPE_CHECKING:
    from klimb.generation.openai.sampler import ServerSampler
    from klimb.policy.policy import Policy


class Http(Endpoint, Generator):
    """Samples from a server that runs the same model. It is called, never told: its weights stay as they are."""

    type: Literal["http"] = "http"
    """The kind of generator."""
    logprobs: Literal["raw", "processed"] = "raw"
    """What the server's log-probs are of: the model's own distribution, or the one that was drawn from (vLLM:
    `--logprobs-mode processed_logprobs`). Raw ones are dropped where temperature, top-p or top-k make them differ."""
    retokenize: bool = False
    """Take text from a server that gives no token ids, and make them from it: they may not be those that were drawn."""
    stale: bool = False
    """Train although the server keeps its first weights."""
    short_seeds: bool = True
    """Send the lowest 31 bits of a seed, for servers that take no more."""

    def open(self, policy: Policy) -> AbstractContextManager[ServerSampler]:
        """The sampler for this server. Raises GenerationError where its key is missing or meant for another host."""
        return _opened(self, policy)


@contextmanager
def _opened(settings: Http, policy: Policy) -> Iterator[ServerSampler]:
    from klimb.generation.openai.sampler import ServerSampler

    yield ServerSampler(policy, settings, settings.server())
