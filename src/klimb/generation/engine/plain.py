"""The plain engine: the model's own forward and cache, for any architecture that transformers can run."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Plain:
    """Prompts of one length at a time, so that nothing is ever padded."""

    mixed = False
    window = None

    def __init__(self, model: Any, reason: str = "") -> None:
        self.model, self.reason = model, reason
        self.last_only = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.cache: Any = None

    def describe(self) -> str:
        """What runs."""
        what = f"plain ({type(self.model).__name__}'s own forward, {str(self.model.dtype).removeprefix('torch.')})"
        return f"{what}: {self.reason}" if self.reason else what

    def start(self, prompts: Sequence[tuple[int, ...]], owners: Sequence[int], room: int) -> Tensor:
        """Prefills all prompts together and copies their caches to the rows."""
        self.cache = None
        logits = self._forward(torch.tensor(prompts, device=self.model.device))
        index = torch.tensor(owners, device=self.model.device)
        self.cache.reorder_cache(index)
        return logits[index]

    def step(self, tokens: Tensor) -> Tensor:
        """One token a row."""
        return self._forward(tokens[:, None])

    def keep(self, order: Sequence[int]) -> None:
        """Copies the cache of the rows that stay."""
        self.cache.reorder_cache(torch.tensor(order, device=self.model.device))

    def stop(self) -> None:
        """Frees the cache."""
        self.cache = None

    def release(self) -> None:
        """Nothing to free."""

    def refresh(self) -> None:
        """Nothing to do: the model is read in place."""

    def _forward(self, tokens: Tensor) -> Tensor:
        options: dict[str, Any] = {"logits_to_keep": 1} if self.last_only else {}
        out = self.model(input_ids=tokens, past_key_values=self.cache, use_cache=True, **options)
        self.cache = out.past_key_values
        logits: Tensor = out.logits[:, -1]
        return logits
