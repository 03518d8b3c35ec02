"""Log-probs of logged completions under a model: estimates of who wrote a log, and what a policy says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from klimb.types import Completion, Group, Prompt, Rollout, Transform

if TYPE_CHECKING:
    from klimb.policy.policy import Policy

TOKENS = 4096
"""How many tokens go through the model at once."""


def log_probs(
    policy: Policy, rows: Sequence[tuple[Prompt, Completion, Transform]], temperature: float | None = None
) -> list[list[float]]:
    """The log-prob of each token of each row at `temperature`; None = the row's own (1 where it is not known, or 0).

    Its own is that of who drew a row, another one that of a policy that is to learn from it. Nothing is cut off: under
    top_p or top_k these are log-probs of the whole distribution.
    """
    if temperature is not None:
        return _measured(policy, rows, temperature)
    by_temperature: dict[float, list[int]] = {}
    for index, (_, _, transform) in enumerate(rows):
        warm = transform.temperature if transform.known and transform.temperature > 0 else 1.0
        by_temperature.setdefault(warm, []).append(index)
    found: list[list[float]] = [[] for _ in rows]
    for warm, indices in by_temperature.items():
        for index, values in zip(indices, _measured(policy, [rows[i] for i in indices], warm), strict=True):
            found[index] = values
    return found


def _measured(
    policy: Policy, rows: Sequence[tuple[Prompt, Completion, Transform]], temperature: float
) -> list[list[float]]:
    import torch

    from klimb.batch import Batch

    warm = Transform(temperature)
    groups = [Group(prompt, (Rollout(completion, 0, -1),), warm) for prompt, completion, _ in rows]
    batch = Batch.of(groups)
    with torch.no_grad():
        logps = torch.cat([policy(part).logp for part in batch.split(TOKENS)])
    return [part.tolist() for part in logps.float().split(batch.lengths.tolist())]
