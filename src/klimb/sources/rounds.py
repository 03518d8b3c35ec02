"""A round of samples: where a step stands in it, and what a checkpoint holds of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from klimb.types import Group, Prompt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step stands: its round, from 0, the round's first step, and which of the round's batches it learns."""

    round: int
    first: int
    batch: int

    @classmethod
    def of(cls, step: int, batches: int, passes: int) -> Place:
        """That of step `step` (from 1)."""
        number, within = divmod(step - 1, batches * passes)
        return cls(number, number * batches * passes + 1, within % batches)


class Round:
    """The groups of one round in batches of `size`, each scored at a step of its own.

    What a step that is done again has scored before counts as not scored: it is scored again, to the same.
    """

    own = True

    def __init__(self, size: int) -> None:
        self._size = size
        self.number, self.born = -1, 0
        self.groups: list[Group] = []
        self._scored: dict[int, int] = {}

    def holds(self, number: int, count: int) -> bool:
        """Whether it is round `number`, of `count` prompts."""
        return self.number == number and len(self.groups) == count

    def begin(self, number: int, step: int, groups: Sequence[Group]) -> None:
        """Another round, sampled at step `step`."""
        self.number, self.born, self.groups, self._scored = number, step, list(groups), {}

    def batch(self, batch: int, prompts: Sequence[Prompt]) -> list[Group]:
        """The groups of a batch, with the prompts of the round as the data have them."""
        part = slice(batch * self._size, (batch + 1) * self._size)
        return [replace(group, prompt=prompt) for group, prompt in zip(self.groups[part], prompts[part], strict=True)]

    def scored_before(self, batch: int, step: int) -> bool:
        """Whether an earlier step than `step` has scored a batch."""
        return self._scored.get(batch, step) < step

    def score(self, batch: int, step: int, groups: Sequence[Group]) -> None:
        """A batch, scored at step `step`."""
        self.groups[batch * self._size : (batch + 1) * self._size] = groups
        self._scored[batch] = step

    def state(self) -> Mapping[str, Tensor]:
        """All of it; the groups as the content of a rollouts file. Nothing before the first round."""
        import torch

        from klimb.rollouts import to_bytes

        if not self.groups:
            return {}
        content = to_bytes(self.groups, [self.born] * len(self.groups))
        return {
            "groups": torch.frombuffer(bytearray(content), dtype=torch.uint8),
            "round": torch.tensor([self.number, self.born], dtype=torch.int64),
            "scored": torch.tensor([*self._scored.items()], dtype=torch.int64).reshape(-1, 2),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts it back. Raises KeyError where it is the state of something else."""
        from klimb.rollouts import from_bytes

        if not state:
            self.number, self.born, self.groups, self._scored = -1, 0, [], {}
            return
        (self.number, self.born), scored = state["round"].tolist(), state["scored"].tolist()
        self.groups = from_bytes(bytes(state["groups"].numpy().tobytes()))
        self._scored = {int(batch): int(step) for batch, step in scored}
