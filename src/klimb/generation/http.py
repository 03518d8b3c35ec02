"""The generator behind HTTP: any server with the OpenAI completions protocol that takes and gives token ids."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from klimb.errors import GenerationError
from klimb.generation.base import Generator

if TYPE_CHECKING:
    from klimb.generation.openai.sampler import ServerSampler
    from klimb.policy.policy import Policy

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Http(Generator):
    """Samples from a server that runs the same model. It is called, never told: its weights stay as they are."""

    type: Literal["http"] = "http"
    """The kind of generator."""
    url: str = "http://127.0.0.1:8000/v1"
    """The server's address up to `/v1`; `/completions` is called."""
    model: Annotated[str, Field(min_length=1)] = "default"
    """The model's name at the server."""
    key_variable: str = ""
    """The environment variable that holds the key. Beside it, `<variable>_HOST` must name the one host[:port] that may
    see the key."""
    deadline: Annotated[float, Field(gt=0.0, le=3600.0)] = 120.0
    """Seconds that one completion may take, retries included."""
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    """How often a call is repeated that was not answered, or with a passing error."""
    parallel: Annotated[int, Field(ge=1, le=1024)] = 16
    """How many calls run at once."""
    body_limit: Annotated[int, Field(ge=1024)] = 16 << 20
    """The most bytes an answer may have."""
    logprobs: Literal["raw", "processed"] = "raw"
    """What the server's log-probs are of: the model's own distribution, or the one that was drawn from (vLLM:
    `--logprobs-mode processed_logprobs`). Raw ones are dropped where temperature, top-p or top-k make them differ."""
    retokenize: bool = False
    """Take text from a server that gives no token ids, and make them from it: they may not be those that were drawn."""
    stale: bool = False
    """Train although the server keeps its first weights."""
    short_seeds: bool = True
    """Send the lowest 31 bits of a seed, for servers that take no more."""

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("wants an address like http://127.0.0.1:8000/v1, without user, password or query")
        return url.rstrip("/")

    def open(self, policy: Policy) -> AbstractContextManager[ServerSampler]:
        """The sampler for this server. Raises GenerationError where its key is missing or meant for another host."""
        return _opened(self, policy)

    def key(self) -> str:
        """The key out of the environment, if it may go to this address. Raises GenerationError."""
        if not self.key_variable:
            return ""
        asked = f"the key in the environment variable {self.key_variable}"
        parts = urlsplit(self.url)
        key, host = os.environ.get(self.key_variable, ""), os.environ.get(f"{self.key_variable}_HOST", "")
        if not key:
            raise GenerationError(asked, "nothing", f"export {self.key_variable}")
        if host.lower() not in {parts.netloc.lower(), (parts.hostname or "").lower()}:
            cure = f"export {self.key_variable}_HOST={parts.netloc}, if that server may see the key"
            raise GenerationError(asked, f"a key for {host or 'no host'}, and a server at {parts.netloc}", cure)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise GenerationError(asked, f"{self.url}, which is not encrypted", "an https address")
        return key


@contextmanager
def _opened(settings: Http, policy: Policy) -> Iterator[ServerSampler]:
    from klimb.generation.openai.sampler import ServerSampler
    from klimb.generation.openai.transport import Server

    server = Server(settings.url, settings.deadline, settings.retries, settings.body_limit, settings.key())
    yield ServerSampler(policy, settings, server)
