"""Requests to a server and its answers, checked: token ids in, token ids out, a log-prob for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from klimb.errors import GenerationError
from klimb.generation.base import Request, Sampling
from klimb.generation.engine.text import Texts
from klimb.generation.openai.transport import Server
from klimb.types import Completion, Finish

if TYPE_CHECKING:
    from klimb.generation.http import Http
    from klimb.policy.policy import Policy

ROUNDING = 1e-3
"""How far above zero a log-prob may lie by rounding."""


class ServerSampler:
    """Draws completions from a server, one call for each, for each has a seed of its own."""

    def __init__(self, policy: Policy, settings: Http, server: Server) -> None:
        self.policy, self.settings, self.server = policy, settings, server

    def describe(self) -> str:
        """Where completions come from."""
        return f"http ({self.settings.model} at {self.settings.url})"

    def refresh(self) -> None:
        """Raises GenerationError unless the settings allow a server whose weights stay as they are."""
        if not self.settings.stale:
            raise GenerationError(
                "completions from the new weights",
                f"a server at {self.settings.url} that keeps its own",
                "generator.type=local, or generator.stale=true to train on what an unchanging model answers",
            )

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Completion, ...]]:
        """One completion for each seed of each request, in order. Raises GenerationError."""
        limits = [self._limit(index, request, sampling) for index, request in enumerate(requests)]
        texts = Texts(self.policy.tokenizer, sampling.stop)
        jobs = [(r, seed, limit) for r, limit in zip(requests, limits, strict=True) for seed in r.seeds]
        pool = ThreadPoolExecutor(max_workers=self.settings.parallel)
        try:
            futures = [pool.submit(self._one, *job, sampling, texts) for job in jobs]
            done = iter([future.result() for future in futures])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # after a failure the calls not yet made are dropped
        return [tuple(next(done) for _ in request.seeds) for request in requests]

    def _limit(self, index: int, request: Request, sampling: Sampling) -> int:
        size, context = len(request.tokens), self.policy.context
        if not 0 < size < context:
            raise GenerationError(
                f"a completion of request {index}",
                f"a prompt of {size} tokens, where the model's context is {context}",
                "give a prompt that is not empty and leaves room for an answer",
            )
        return min(sampling.max_tokens, context - size)

    def _one(self, request: Request, seed: int, limit: int, sampling: Sampling, texts: Texts) -> Completion:
        answer = self.server.post("/completions", self._body(request, seed, limit, sampling))
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            count = len(choices) if isinstance(choices, list) else "no"
            raise self.server.failed(f"{count} choices where one was asked for")
        return self._completion(choices[0], limit, sampling, texts)

    def _body(self, request: Request, seed: int, limit: int, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.settings.model,
            "prompt": list(request.tokens),
            "seed": seed & 0x7FFFFFFF if self.settings.short_seeds else seed,
            "n": 1,
            "max_tokens": limit,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        return body

    def _completion(self, choice: dict[str, Any], limit: int, sampling: Sampling, texts: Texts) -> Completion:
        tokens, known = self._tokens(choice)
        if not 0 < len(tokens) <= limit:
            raise self.server.failed(f"{len(tokens)} tokens where 1 to {limit} were asked for")
        logps = self._logps(choice, len(tokens)) if known and self._comparable(sampling) else ()
        finish = self._finish(choice, tokens[-1], bool(sampling.stop))
        return Completion(tuple(tokens), logps, texts.final(tokens, finish is Finish.EOS), finish)

    def _comparable(self, sampling: Sampling) -> bool:
        """Whether the server's log-probs are those of the distribution that was drawn from."""
        plain = sampling.temperature == 1.0 and not sampling.transform.truncates
        return plain or self.settings.logprobs == "processed"

    def _tokens(self, choice: dict[str, Any]) -> tuple[list[int], bool]:
        """The token ids of a choice, and whether they are the server's own."""
        ids = choice.get("token_ids")
        if ids is None:
            ids = _ids_from_names((choice.get("logprobs") or {}).get("tokens"))
        if ids is not None:
            width = self.policy.model.config.get_text_config().vocab_size
            if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < width for i in ids):
                raise self.server.failed(f"token ids that are not whole numbers below {width}")
            return ids, True
        text = choice.get("text")
        if self.settings.retokenize and isinstance(text, str):
            return list(self.policy.tokenizer.encode(text, add_special_tokens=False)), False
        raise self.server.failed(
            "text without token ids; made again from text they may differ from those that were drawn",
            "a server that knows return_token_ids, or generator.retokenize=true and no use of the sampler's log-probs",
        )

    def _logps(self, choice: dict[str, Any], count: int) -> tuple[float, ...]:
        values = (choice.get("logprobs") or {}).get("token_logprobs")
        if not isinstance(values, list) or len(values) != count:
            found = len(values) if isinstance(values, list) else "no"
            raise self.server.failed(f"{found} log-probs for {count} tokens")
        for place, value in enumerate(values):
            if type(value) not in (int, float) or not math.isfinite(value) or value > ROUNDING:
                raise self.server.failed(f"log-prob {value!r} of token {place}, which is not a number up to 0")
        return tuple(min(float(value), 0.0) for value in values)

    def _finish(self, choice: dict[str, Any], last: int, stops: bool) -> Finish:
        reason = choice.get("finish_reason")
        if last in self.policy.eos_ids:
            return Finish.EOS
        if reason == "length":
            return Finish.LENGTH
        if reason == "stop" and stops:
            return Finish.STOP
        raise self.server.failed(f"finish reason {reason!r} of a completion that ends with token {last}, not with EOS")


def _ids_from_names(names: Any) -> list[int] | None:
    """Token ids out of names like `token_id:17`; None where the names are text."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name.startswith("token_id:") for name in names):
        return None
    try:
        return [int(name.removeprefix("token_id:")) for name in names]
    except ValueError:
        return None
