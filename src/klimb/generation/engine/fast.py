"""The fast engine for Llama-like models: its own step over the model's weights, without padding, prompts kept once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from klimb.generation.engine.blocks import Program, Rope, read, rope_tables
from klimb.generation.engine.cache import Cache
from klimb.generation.engine.linear import packs
from klimb.policy.heads import HeadRule


class Fast:
    """Runs the blocks that were read from a model. Packed weights live only while something is sampled."""

    mixed = True

    def __init__(self, model: Any) -> None:
        self.model, self.dtype, self.device = model, model.dtype, torch.device(model.device)
        self.packed = packs(self.dtype, self.device)
        self.rule = HeadRule.of(model.config)
        self.program: Program | None = None
        self.cache: Cache | None = None
        self.tables: dict[str, Rope] = {}

    @property
    def window(self) -> int | None:
        """The shortest sliding window: this engine sees every place, so a sequence must stay within it."""
        return min((block.shape.window for block in self._program().blocks if block.shape.window), default=None)

    def describe(self) -> str:
        """What runs."""
        how = "weights packed for oneDNN" if self.packed else "weights in place"
        return f"fast (prompts kept once, {how}, {str(self.dtype).removeprefix('torch.')})"

    def start(self, prompts: Sequence[tuple[int, ...]], owners: Sequence[int], room: int) -> Tensor:
        """Prefills all prompts as one flat sequence."""
        program = self._program()
        sizes = [len(prompt) for prompt in prompts]
        kinds = {block.kind for block in program.blocks}
        self.tables = rope_tables(self.model, kinds, max(sizes) + room, self.dtype)
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        self.cache = Cache(program.blocks, sizes, owners, room, like)
        tokens = torch.tensor([token for prompt in prompts for token in prompt], device=self.device)
        places = torch.cat([torch.arange(size, device=self.device) for size in sizes])
        hidden = program.hidden(tokens, self._ropes(places), self.cache.prefill)
        last = torch.tensor(sizes, device=self.device).cumsum(0) - 1
        logits = self._finish(program.logits(hidden[last]))
        return logits[torch.tensor(owners, device=self.device)]

    def step(self, tokens: Tensor) -> Tensor:
        """One token a row."""
        assert self.cache is not None
        program = self._program()
        hidden = program.hidden(tokens, self._ropes(self.cache.positions()), self.cache.decode)
        self.cache.advance()
        return self._finish(program.logits(hidden))

    def keep(self, order: Sequence[int]) -> None:
        """Drops rows from the cache."""
        assert self.cache is not None
        self.cache.keep(order)

    def stop(self) -> None:
        """Frees the cache."""
        self.cache = None
        self.tables = {}

    def release(self) -> None:
        """Frees the packed weights: the training step needs the memory more than they need the tenth of a second."""
        self.program = None

    def refresh(self) -> None:
        """Packed weights are stale now."""
        self.program = None

    def _program(self) -> Program:
        if self.program is None:
            self.program = read(self.model, self.packed)
        return self.program

    def _finish(self, logits: Tensor) -> Tensor:
        """The model's own scaling and soft cap, in float32 where there is one."""
        if self.rule.scale != 1.0:
            logits = logits.float() * self.rule.scale
        if cap := self.rule.softcap:
            logits = torch.tanh(logits.float() / cap) * cap
        return logits

    def _ropes(self, places: Tensor) -> dict[str, Rope]:
        return {kind: table.at(places) for kind, table in self.tables.items()}
