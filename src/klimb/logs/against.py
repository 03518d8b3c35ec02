"""A policy beside the logs: how much of them counts for it, and how far it is from who wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from klimb.errors import DataError
from klimb.logs.drawing import Drawn
from klimb.logs.estimating import log_probs
from klimb.rollouts import files_of, tables
from klimb.rollouts.reading import prompt_of, rollout_of, transform_of
from klimb.types import Completion, Prompt, Transform

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.policy.policy import Policy

LOW, HIGH = 0.8, 1.2
"""The ratios that PPO's usual clip trusts."""
CHUNK = 64


@dataclass(frozen=True, slots=True)
class Band:
    """Completions of `low` to `high` tokens: how many, and as how many they count."""

    low: int
    high: int
    rows: int
    effective: float


@dataclass(frozen=True, slots=True)
class Compared:
    """What a policy makes of a random sample of the rows that have log-probs; in nats.

    `effective` counts rows by the ratio of the whole completion; `mass` is the mean of these ratios, 1 where the logs
    cover what the policy says, and near 0 where its answers are others. `kl` estimates KL(behaviour || policy) of a
    completion, with its 95 % interval. `outside`: the share of tokens whose ratio lies outside [0.8, 1.2]. `value` and
    `weighted` are the policy's reward by ordinary and weighted importance sampling, `robust` by the doubly robust
    estimate with the mean reward of the prompt's other answers as its guess, with intervals. All intervals take the
    rows of a prompt for one draw, as their rewards and ratios are alike.
    """

    rows: int
    skipped: int
    tokens: int
    effective: float
    mass: float
    bands: tuple[Band, ...]
    outside: float
    below: float
    kl: tuple[float, float, float]
    kl_token: float
    ratios: dict[str, float]
    value: tuple[float, float, float] | None
    weighted: tuple[float, float, float] | None
    robust: tuple[float, float, float] | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


Row = tuple[Prompt, Completion, Transform, float | None]


def read(logs: Path, rows: NDArray[np.int64]) -> Iterator[Row]:
    """The rows of these numbers, which ascend. Raises DataError."""
    seen = 0
    for path in files_of(logs):
        for first, table in tables(path):
            places = (rows[(rows >= seen) & (rows < seen + table.num_rows)] - seen).tolist()
            seen += table.num_rows
            for place, value in zip(places, table.take(places).to_pylist(), strict=True):
                row = first + place
                rollout, prompt = rollout_of(path, row, value), prompt_of(path, row, value)
                yield prompt, rollout.completion, transform_of(path, row, value), rollout.reward


def compare(policy: Policy, logs: Path, drawn: Drawn, temperature: float = 1.0) -> Compared | None:
    """Asks the policy at the temperature at which it is to learn; None where no row was drawn. Raises DataError."""
    import torch

    rows = list(read(logs, drawn.rows))
    vocabulary = policy.model.get_input_embeddings().weight.shape[0]
    kept = [index for index, one in enumerate(rows) if _fits(one, vocabulary, policy.context)]
    fit = [rows[index] for index in kept]
    if rows and not fit:
        raise DataError(
            f"{logs} beside this policy",
            "token ids or lengths that it does not have",
            "a policy with the tokenizer of the logs",
        )
    if not fit:
        return None
    parts = [[one[:3] for one in fit[at : at + CHUNK]] for at in range(0, len(fit), CHUNK)]
    now = [values for part in parts for values in log_probs(policy, part, temperature)]
    mu = torch.tensor([x for one in fit for x in one[1].logps], dtype=torch.float64)
    pi = torch.tensor([x for values in now for x in values], dtype=torch.float64)
    lengths = torch.tensor([len(values) for values in now])
    about = torch.from_numpy(drawn.prompts[kept]), torch.from_numpy(drawn.guesses[kept])
    return _compared(pi - mu, lengths, [one[3] for one in fit], about, len(rows) - len(fit))


def _fits(row: Row, vocabulary: int, context: int) -> bool:
    tokens = (*row[0].tokens, *row[1].tokens)
    return max(tokens) < vocabulary and len(tokens) <= context


def _compared(
    gaps: Tensor, lengths: Tensor, rewards: Sequence[float | None], about: tuple[Tensor, Tensor], skipped: int
) -> Compared:
    """`about`: the prompt of each row, and a guess of its value."""
    import torch

    from klimb import functional as F

    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    whole = F.segments.sum_by(gaps, row, len(lengths))
    ratio = F.importance.ratio(gaps)
    marks = torch.tensor([0.0, 0.05, 0.5, 0.95, 1.0], dtype=torch.float64)
    names = ("q0", "q5", "q50", "q95", "q100")
    return Compared(
        rows=len(lengths),
        skipped=skipped,
        tokens=len(gaps),
        effective=float(F.offpolicy.effective_size(whole)),
        mass=float(F.importance.ratio(whole).mean()),
        bands=tuple(_bands(whole, lengths)),
        outside=float(((ratio < LOW) | (ratio > HIGH)).double().mean()),
        below=float((ratio < LOW).double().mean()),
        kl=_three(F.offpolicy.clustered(F.divergence.k1(-whole), about[0])),
        kl_token=float(-gaps.mean()),
        ratios=dict(zip(names, torch.quantile(ratio[: 1 << 23], marks).tolist(), strict=True)),
        **_values(gaps, row, whole, rewards, about),
    )


def _values(
    gaps: Tensor, row: Tensor, whole: Tensor, rewards: Sequence[float | None], about: tuple[Tensor, Tensor]
) -> dict[str, tuple[float, float, float] | None]:
    """The policy's reward by each estimate, from the rows that have one; a row's reward is that of its last token."""
    import torch

    from klimb import functional as F

    scored = torch.tensor([reward is not None for reward in rewards])
    if not bool(scored.any()):
        return {"value": None, "weighted": None, "robust": None}
    kept, reward = whole[scored], torch.tensor([r for r in rewards if r is not None], dtype=torch.float64)
    prompts, guess = about[0][scored], about[1][scored]
    tokens = scored[row]
    of = (scored.cumsum(0) - 1)[row[tokens]]
    last = torch.cat([of[1:] != of[:-1], torch.ones(1, dtype=torch.bool)])
    paid = torch.where(last, reward[of], torch.zeros_like(reward[of]))
    shares = {
        "value": F.offpolicy.ordinary(kept, reward),
        "weighted": F.offpolicy.weighted(kept, reward),
        "robust": F.offpolicy.doubly_robust(gaps[tokens], paid, guess[of], guess[of], of, len(reward)),
    }
    return {name: _three(F.offpolicy.clustered(share, prompts)) for name, share in shares.items()}


def _three(parts: tuple[Tensor, Tensor, Tensor]) -> tuple[float, float, float]:
    return float(parts[0]), float(parts[1]), float(parts[2])


def _bands(whole: Tensor, lengths: Tensor) -> Iterator[Band]:
    """By length, in powers of two."""
    from klimb import functional as F

    high = 8
    low = 1
    while low <= int(lengths.max()):
        inside = (lengths >= low) & (lengths <= high)
        if bool(inside.any()):
            yield Band(low, high, int(inside.sum()), float(F.offpolicy.effective_size(whole[inside])))
        low, high = high + 1, 2 * high
