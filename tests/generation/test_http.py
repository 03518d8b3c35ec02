"""Servers that fail, lie or stall: each is one clear error within its deadline, and the key goes nowhere else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from klimb.errors import GenerationError
from klimb.generation.base import Request, Sampling
from klimb.generation.http import Http
from tests.generation.helpers import EOS, answer, model_of, policy_of, served

Handle = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]
DEADLINE = 0.6
REQUEST = Request((5, 9), (1,))
GOOD: dict[str, Any] = {
    "text": "x",
    "finish_reason": "length",
    "token_ids": [100, 101],
    "logprobs": {"token_logprobs": [-1.0, -2.0]},
}


@pytest.fixture(scope="module")
def policy() -> Any:
    return policy_of(model_of("llama"))


def ask(policy: Any, url: str, sampling: Sampling | None = None, **settings: Any) -> Any:
    with Http(url=url, **{"deadline": DEADLINE, "retries": 1, **settings}).open(policy) as sampler:
        return sampler.sample([REQUEST], sampling or Sampling(max_tokens=4))


def saying(**changes: Any) -> Handle:
    """A server whose one choice differs from a good one; None takes a field away."""
    choice = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return lambda handler, body: answer(handler, {"choices": [choice]})


def sending(body: bytes | dict[str, Any], status: int = 200, **headers: str) -> Handle:
    return lambda handler, _: answer(handler, body, status, **headers)


def logps(*values: Any) -> dict[str, Any]:
    return {"token_logprobs": list(values)}


HOSTILE: dict[str, tuple[Handle, str]] = {
    "errors": (sending(b"boom", 500), "HTTP 500"),
    "refusal": (sending(b'{"error": "no such model"}', 404), "HTTP 404.*no such model"),
    "redirect": (sending(b"", 302, Location="http://127.0.0.1:9/v1"), "HTTP 302"),
    "not JSON": (sending(b"<html>\x1b[31mhello"), "not JSON"),
    "deep JSON": (sending(b"[" * 4000), "not JSON"),
    "no object": (sending(b"[1, 2]"), "no choices"),
    "no choice": (sending({"choices": []}), "0 choices"),
    "two choices": (sending({"choices": [GOOD, GOOD]}), "2 choices"),
    "a choice that is text": (sending({"choices": ["x"]}), "choices"),
    "huge": (sending(b" " * 5000), "more than 4096 bytes"),
    "NaN log-prob": (saying(logprobs=logps(-1.0, float("nan"))), "log-prob nan of token 1"),
    "positive log-prob": (saying(logprobs=logps(0.5, -1.0)), "log-prob 0.5 of token 0"),
    "log-prob in words": (saying(logprobs=logps("-1", -1.0)), "log-prob '-1' of token 0"),
    "too few log-probs": (saying(logprobs=logps(-1.0)), "1 log-probs for 2 tokens"),
    "no log-probs": (saying(logprobs=None), "no log-probs"),
    "too many tokens": (saying(token_ids=[100] * 5, logprobs=logps(*[-1.0] * 5)), "5 tokens where 1 to 4"),
    "no tokens": (saying(token_ids=[], logprobs=logps()), "0 tokens"),
    "ids beyond the vocabulary": (saying(token_ids=[100, 259]), "token ids"),
    "ids that are not ids": (saying(token_ids=[100, True]), "token ids"),
    "text only": (saying(token_ids=None), "text without token ids"),
    "an EOS that was left out": (saying(finish_reason="stop"), "finish reason 'stop'"),
    "no finish": (saying(finish_reason=None), "finish reason None"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_server_that_answers_badly_is_one_clear_error_in_time(name: str, policy: Any) -> None:
    handle, found = HOSTILE[name]
    with served(handle) as url:
        start = time.monotonic()
        with pytest.raises(GenerationError, match=found) as caught:
            ask(policy, url, body_limit=4096)
        assert time.monotonic() - start < DEADLINE + 1.0
    assert url in caught.value.asked
    assert caught.value.line().isprintable()


@contextmanager
def stalling(first: bytes, drip: bytes) -> Iterator[str]:
    """A server that sends `first` and then `drip` for ever, a little at a time (or nothing at all)."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while not over.is_set():
            try:
                client, _ = listener.accept()
                client.sendall(first)
                while not over.wait(0.05):
                    client.sendall(drip)
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        over.set()
        listener.close()
        thread.join(2.0)


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
)
def test_a_server_that_stalls_is_given_up_at_the_deadline(first: bytes, drip: bytes, policy: Any) -> None:
    with stalling(first, drip) as url:
        start = time.monotonic()
        with pytest.raises(GenerationError):
            ask(policy, url)
        assert time.monotonic() - start < DEADLINE + 1.0


def test_nobody_listening_is_an_error(policy: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(GenerationError, match="2 attempts"):
        ask(policy, f"http://127.0.0.1:{port}/v1")


def test_a_passing_failure_is_tried_again(policy: Any) -> None:
    calls: list[int] = []

    def handle(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        calls.append(1)
        answer(handler, {"choices": [GOOD]}) if len(calls) == 3 else answer(handler, b"busy", 503)

    with served(handle) as url:
        ((done,),) = ask(policy, url, retries=2, deadline=5.0)
    assert done.tokens == (100, 101)
    assert len(calls) == 3


def test_what_is_asked_is_token_ids_with_a_seed(policy: Any) -> None:
    bodies: list[dict[str, Any]] = []

    def handle(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        bodies.append(body)
        answer(handler, {"choices": [GOOD]})

    with served(handle) as url:
        ask(policy, url, Sampling(max_tokens=4, temperature=0.5, top_k=3, stop=("x",)), model="m")
    (body,) = bodies
    wanted = {"model": "m", "prompt": [5, 9], "seed": 1, "n": 1, "max_tokens": 4, "temperature": 0.5, "top_k": 3}
    assert {**body, **wanted, "stop": ["x"], "return_token_ids": True} == body


def test_token_ids_in_names_count_as_token_ids(policy: Any) -> None:
    named = {"tokens": ["token_id:100", f"token_id:{EOS[0]}"], "token_logprobs": [-1.0, -2.0]}
    with served(saying(token_ids=None, logprobs=named, finish_reason="stop")) as url:
        ((done,),) = ask(policy, url)
    assert done.tokens == (100, EOS[0])
    assert done.finish == "eos"


def test_log_probs_of_another_distribution_are_dropped(policy: Any) -> None:
    with served(saying()) as url:
        ((raw,),) = ask(policy, url, Sampling(max_tokens=4, temperature=0.5))
        ((processed,),) = ask(policy, url, Sampling(max_tokens=4, temperature=0.5), logprobs="processed")
    assert raw.logps == ()
    assert processed.logps == (-1.0, -2.0)


def test_text_without_ids_is_taken_only_where_the_settings_say_so_and_then_without_log_probs(policy: Any) -> None:
    with served(saying(token_ids=None, text="hi")) as url:
        ((done,),) = ask(policy, url, retokenize=True)
    assert done.tokens == tuple(policy.tokenizer.encode("hi", add_special_tokens=False))
    assert done.logps == ()


def test_new_weights_are_refused_unless_a_stale_server_is_allowed(policy: Any) -> None:
    with Http().open(policy) as sampler, pytest.raises(GenerationError, match="keeps its own"):
        sampler.refresh()
    with Http(stale=True).open(policy) as sampler:
        sampler.refresh()


def test_the_key_is_sent_to_its_own_host_only(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def handle(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        seen.append(handler.headers["Authorization"])
        answer(handler, {"choices": [GOOD]})

    with served(handle) as url:
        with pytest.raises(GenerationError, match="export MY_KEY"):
            ask(policy, url, key_variable="MY_KEY")
        monkeypatch.setenv("MY_KEY", "canary-secret")
        with pytest.raises(GenerationError, match="a key for no host"):
            ask(policy, url, key_variable="MY_KEY")
        monkeypatch.setenv("MY_KEY_HOST", "elsewhere.example")
        with pytest.raises(GenerationError, match="a key for elsewhere") as caught:
            ask(policy, url, key_variable="MY_KEY")
        assert "canary" not in caught.value.line()
        monkeypatch.setenv("MY_KEY_HOST", "127.0.0.1")
        ask(policy, url, key_variable="MY_KEY")
    assert seen == ["Bearer canary-secret"]


def test_a_key_is_not_sent_in_the_clear_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "canary-secret")
    monkeypatch.setenv("MY_KEY_HOST", "far.example")
    with pytest.raises(GenerationError, match="not encrypted"):
        Http(url="http://far.example/v1", key_variable="MY_KEY").key()
    assert Http(url="https://far.example/v1", key_variable="MY_KEY").key() == "canary-secret"


@pytest.mark.parametrize("url", ["ftp://x/v1", "127.0.0.1:8000", "http://user:secret@host/v1", "http://host/v1?a=b"])
def test_an_address_that_is_not_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="wants an address"):
        Http(url=url)
