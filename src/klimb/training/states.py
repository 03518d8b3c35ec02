"""The states of prompts under a policy: what a choice of the reward's source sees of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from klimb.batch import Batch
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Transform

if TYPE_CHECKING:
    from klimb.policy.policy import Policy

ANY = Completion((0,), (), "", Finish.LENGTH)
"""A completion of one token: what predicts it is the prompt's last state."""


class PromptStates:
    """The last hidden state at the end of each prompt (n, d), float64. The policy is opened at the first question."""

    def __init__(self, opened: Callable[[], Policy], tokens: int, stays: bool = False) -> None:
        self._opened, self._tokens, self._stays = opened, tokens, stays
        self._policy: Policy | None = None
        self._known: dict[str, Any] = {}

    def __call__(self, prompts: Sequence[Prompt]) -> Any:
        """Of each prompt; of a policy that stays as it is, each is computed once, and alone: to the same bits later."""
        self._policy = self._policy or self._opened()
        known = self._known if self._stays else {}
        missing = list({prompt.id: prompt for prompt in prompts if prompt.id not in known}.values())
        if missing:
            groups = [Group(prompt, (Rollout(ANY, 0, 0),), Transform()) for prompt in missing]
            parts = [Batch.of([one]) for one in groups] if self._stays else Batch.of(groups).split(self._tokens)
            found = np.concatenate([self._policy.states(part).double().numpy() for part in parts])
            known |= {prompt.id: state for prompt, state in zip(missing, found, strict=True)}
        return np.array([known[prompt.id] for prompt in prompts])
