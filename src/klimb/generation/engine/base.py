"""What every engine is: it turns prompts and drawn tokens into the logits of the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Engine(Protocol):
    """Decodes many completions together. The order of rows is the caller's."""

    mixed: bool
    """Whether prompts of different lengths may be started together."""

    @property
    def window(self) -> int | None:
        """The most tokens a sequence may have here; None = as many as the model."""
        ...

    def describe(self) -> str:
        """What runs, in a line for people."""
        ...

    def start(self, prompts: Sequence[tuple[int, ...]], owners: Sequence[int], room: int) -> Tensor:
        """Prefills each prompt once; row r continues prompt `owners[r]` for at most `room` tokens.

        The logits [r, v] of each row's first token. `owners` ascends.
        """
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """The logits [r, v] after `tokens` [r] were appended to the rows."""
        ...

    def keep(self, order: Sequence[int]) -> None:
        """From now on row i is what was row `order[i]`; the others are gone."""
        ...

    def stop(self) -> None:
        """Frees what a batch held."""
        ...

    def release(self) -> None:
        """Frees what sampling alone needs: nothing more is sampled for now."""
        ...

    def refresh(self) -> None:
        """The model's weights have changed."""
        ...
