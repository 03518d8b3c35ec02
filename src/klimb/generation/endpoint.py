"""A server with one of OpenAI's protocols: where it is, with what patience it is called, and who may see the key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from klimb.config import Settings
from klimb.errors import GenerationError

if TYPE_CHECKING:
    from klimb.generation.openai.transport import Server

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Endpoint(Settings):
    """The settings of everything that calls such a server."""

    url: str = "http://127.0.0.1:8000/v1"
    """The server's address up to `/v1`."""
    model: Annotated[str, Field(min_length=1)] = "default"
    """The model's name at the server."""
    key_variable: str = ""
    """The environment variable that holds the key. Beside it, `<variable>_HOST` must name the one host[:port] that may
    see the key."""
    deadline: Annotated[float, Field(gt=0.0, le=3600.0)] = 120.0
    """Seconds that one answer may take, retries included."""
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    """How often a call is repeated that was not answered, or with a passing error."""
    parallel: Annotated[int, Field(ge=1, le=1024)] = 16
    """How many calls run at once."""
    body_limit: Annotated[int, Field(ge=1024)] = 16 << 20
    """The most bytes an answer may have."""

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("wants an address like http://127.0.0.1:8000/v1, without user, password or query")
        return url.rstrip("/")

    def server(self) -> Server:
        """The server, ready to be called. Raises GenerationError where its key is missing or meant for another host."""
        from klimb.generation.openai.transport import Server

        return Server(self.url, self.deadline, self.retries, self.body_limit, self.key())

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
