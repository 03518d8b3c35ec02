"""The local sampler: requests in, completions out, in waves of at most so many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from klimb.errors import GenerationError
from klimb.generation.base import Request, Sampling
from klimb.generation.engine.base import Engine
from klimb.generation.engine.draw import draw
from klimb.generation.engine.plain import Plain
from klimb.generation.engine.rows import Row, survivors
from klimb.generation.engine.text import Texts
from klimb.seeds import uniforms
from klimb.types import Completion

if TYPE_CHECKING:
    from klimb.policy.policy import Policy


class LocalSampler:
    """Draws completions from a policy that lives in this process."""

    def __init__(self, policy: Policy, engine: Engine, rows: int) -> None:
        self.policy, self.engine, self.rows = policy, engine, rows
        self.eos = frozenset(policy.eos_ids)

    def describe(self) -> str:
        """Which engine runs, and why; a line for people."""
        return self.engine.describe()

    def refresh(self) -> None:
        """The policy's weights have changed."""
        self.engine.refresh()

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Completion, ...]]:
        """One completion for each seed of each request, in order. Raises GenerationError."""
        limits = [self._limit(index, request, sampling) for index, request in enumerate(requests)]
        texts = Texts(self.policy.tokenizer, sampling.stop)
        done: dict[tuple[int, int], Completion] = {}
        with torch.inference_mode(), _evaluating(self.policy.model):
            for engine, members in self._assigned(requests, limits):
                try:
                    for wave in self._waves(engine, requests, members, limits):
                        for row in self._decode(engine, requests, wave, sampling, texts):
                            done[row.request, row.k] = row.completion(texts)
                finally:
                    engine.release()
        return [tuple(done[i, k] for k in range(len(request.seeds))) for i, request in enumerate(requests)]

    def _limit(self, index: int, request: Request, sampling: Sampling) -> int:
        """How many tokens a completion of this request may have."""
        size, context = len(request.tokens), self.policy.context
        if not 0 < size < context:
            raise GenerationError(
                f"a completion of request {index}",
                f"a prompt of {size} tokens, where the model's context is {context}",
                "give a prompt that is not empty and leaves room for an answer",
            )
        return min(sampling.max_tokens, context - size)

    def _assigned(self, requests: Sequence[Request], limits: Sequence[int]) -> Iterator[tuple[Engine, list[int]]]:
        """Each engine with its requests: what may outgrow the engine's window goes to the model's own forward."""
        window = self.engine.window
        longest = [len(request.tokens) + limit for request, limit in zip(requests, limits, strict=True)]
        inside = [index for index, size in enumerate(longest) if window is None or size <= window]
        if inside:
            yield self.engine, inside
        if len(inside) < len(requests):
            yield Plain(self.policy.model), sorted(set(range(len(requests))) - set(inside))

    def _waves(
        self, engine: Engine, requests: Sequence[Request], members: list[int], limits: Sequence[int]
    ) -> Iterator[list[Row]]:
        """Rows that are decoded together; completions of one prompt stay together where they fit."""
        sizes = [len(request.tokens) for request in requests]
        order = members if engine.mixed else sorted(members, key=lambda index: sizes[index])
        wave: list[Row] = []
        for index in order:
            rows = [Row(index, k, seed, limits[index]) for k, seed in enumerate(requests[index].seeds)]
            apart = not engine.mixed and wave and sizes[wave[0].request] != sizes[index]
            if wave and (apart or len(wave) + len(rows) > self.rows):
                yield wave
                wave = []
            wave += rows
            while len(wave) > self.rows:
                yield wave[: self.rows]
                wave = wave[self.rows :]
        if wave:
            yield wave

    def _decode(
        self, engine: Engine, requests: Sequence[Request], rows: list[Row], sampling: Sampling, texts: Texts
    ) -> list[Row]:
        """Draws every row of a wave to its end."""
        rows, prompts, owners = _by_prompt(requests, rows)
        room = max(row.limit for row in rows)
        device = self.policy.device
        chances = torch.from_numpy(np.stack([uniforms(row.seed, room) for row in rows])).to(device)
        live = rows
        try:
            logits = engine.start(prompts, owners, room)
            for place in range(room):
                drawn = draw(logits, chances[:, place], sampling)
                columns = (drawn.tokens.tolist(), drawn.logps.tolist(), drawn.entropies.tolist())
                for row, token, logp, entropy in zip(live, *columns, strict=True):
                    row.push(token, logp, entropy, self.eos, texts)
                order = survivors(live)
                if not order:
                    break
                tokens = drawn.tokens
                if len(order) < len(live):
                    engine.keep(order)
                    index = torch.tensor(order, device=device)
                    live, tokens, chances = [live[old] for old in order], tokens[index], chances[index]
                logits = engine.step(tokens)
        finally:
            engine.stop()
        return rows


def _by_prompt(requests: Sequence[Request], rows: list[Row]) -> tuple[list[Row], list[tuple[int, ...]], list[int]]:
    """The distinct prompts of some rows, and the rows in the order of their prompts."""
    place: dict[tuple[int, ...], int] = {}
    for row in rows:
        place.setdefault(requests[row.request].tokens, len(place))
    owned = sorted(rows, key=lambda row: place[requests[row.request].tokens])
    return owned, list(place), [place[requests[row.request].tokens] for row in owned]


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model without dropout, and as it was afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
