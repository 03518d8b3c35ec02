"""One JSON call over HTTP: a deadline on the whole of it, bounded retries, no redirects, a cap on the answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from klimb.errors import GenerationError

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


class Unreached(Exception):
    """An attempt that failed in a way that another one may not."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to call, and with what patience. `key` goes to this server alone, for redirects are not followed."""

    url: str
    deadline: float
    retries: int
    body_limit: int
    key: str = field(default="", repr=False)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to `body`, within `deadline` seconds, retries included. Raises GenerationError."""
        ends = time.monotonic() + self.deadline
        cause = "no attempt"
        for attempt in range(self.retries + 1):
            try:
                return self._attempt(path, json.dumps(body).encode(), ends)
            except Unreached as error:
                cause = str(error)
            pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
            if attempt == self.retries or time.monotonic() + pause >= ends:
                break
            time.sleep(pause)
        raise self.failed(f"{cause} ({attempt + 1} attempts, {self.deadline:g} s allowed)")

    def failed(self, found: str, cure: str = "look at the server's log and at the setting url") -> GenerationError:
        """The error that names this server."""
        return GenerationError(f"a completion from {self.url}", found, cure)

    def _attempt(self, path: str, body: bytes, ends: float) -> Any:
        try:
            status, answer = self._exchange(path, body, ends)
        except (OSError, http.client.HTTPException) as error:
            late = time.monotonic() >= ends
            raise Unreached("no answer in time" if late else f"{type(error).__name__}: {error}") from error
        if status in RETRIED:
            raise Unreached(f"HTTP {status}: {_excerpt(answer)}")
        if status != 200:
            raise self.failed(f"HTTP {status}: {_excerpt(answer)}")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise self.failed(f"an answer that is not JSON: {_excerpt(answer)}") from error

    def _exchange(self, path: str, body: bytes, ends: float) -> tuple[int, bytes]:
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left")
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=left)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection.connect()
            with _cut_off(connection.sock, ends):
                connection.request("POST", parts.path.rstrip("/") + path, body, headers)
                response = connection.getresponse()
                answer = response.read(self.body_limit + 1)
                if len(answer) > self.body_limit:
                    raise self.failed(f"an answer of more than {self.body_limit} bytes", "raise body_limit")
                return response.status, answer
        finally:
            connection.close()


@contextlib.contextmanager
def _cut_off(sock: socket.socket, ends: float) -> Iterator[None]:
    """Shuts the socket when time is up, whatever is being read: a timeout alone starts anew with every byte."""

    def cut() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, ends - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
        if time.monotonic() >= ends:
            raise TimeoutError("the answer came too late")
    finally:
        timer.cancel()


def _excerpt(answer: bytes) -> str:
    text = answer[:200].decode("utf-8", "replace")
    return ascii("".join(letter if letter.isprintable() else " " for letter in text))
