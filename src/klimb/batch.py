"""The batch: flat completion tokens, no padding. One `Batch` serves every method (design D3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from klimb.seeds import logged_seed
from klimb.shapes import PerRow, PerToken, RowGroups, RowMask, Scalar, TokenIds, TokenMask, TokenRows
from klimb.types import Finish, Group, Label, Rollout

PER_TOKEN = (
    "tokens", "row", "learn", "sampler", "entropy", "advantage", "old", "ref", "weight", "whole", "value", "returns",
    "able", "kl_weight", "unmoved",
)  # fmt: skip
PER_ROW = ("group", "reward", "scored", "truncated", "key", "label", "age")


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a policy says of a batch: `logp[t]` (differentiable) of each token, and `entropy[t]` (detached); in nats.

    `value[t]` (differentiable) is the critic's, before token t is drawn; None where the policy has no critic.
    `divergence[t]` (differentiable) is KL(pi||ref) of the next token where t was drawn, from both whole distributions;
    zero where no fresh sample is, None where it was not asked for.
    """

    logp: PerToken
    entropy: PerToken
    value: PerToken | None = None
    divergence: PerToken | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What an objective returns: a loss and metrics, each a sum weighted by `batch.weight`, so that parts add up.

    `kl` are the metrics of a KL that has weights of its own: sums weighted by `batch.kl_weight`. `fit` are those of a
    critic beside a selector, which learns at every token: sums weighted by `batch.whole`.
    """

    loss: Scalar
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    kl: Mapping[str, Scalar] = field(default_factory=dict)
    fit: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """One entry per completion token (t), per completion (r), per prompt (g); rows and groups are in order.

    `prompts[g]` holds the prompt's token ids. `learn[t]` is False where no gradient may flow (a failed score, a
    filtered row). `reward[r]` is zero and meaningless where `scored[r]` is False. `sampler[t]` is the sampler's own
    log-prob. `old`, `ref`, `advantage`, `weight` are filled on the way; `weight` sums to one over an optimizer step.
    `value` is the critic's before the first pass, `returns` what it is fitted to; None where there is no critic.
    `carried` holds numbers that the objective wants carried from step to step, by name.
    `able` and `whole` are `learn` and the weight before a selector narrowed the tokens, None where none did;
    `kl_weight` is that of a KL in the loss, where the selector leaves it on all tokens. `key[r]` names a row for ever
    (its draw's seed, or what stands for it), wherever it stands. `entropy[t]` is the sampler's, or what the selector
    asked for instead. `label[r]` is a `types.Label`: what a row is that learns without a reward; None where none has
    one. `age[r]`: how many versions of the policy ago a row was drawn that is learned from again, -1 where it is fresh;
    None where all are.
    """

    tokens: TokenIds
    row: TokenRows
    group: RowGroups
    prompts: tuple[Tensor, ...]
    learn: TokenMask
    reward: PerRow
    scored: RowMask
    truncated: RowMask
    temperature: float = 1.0
    sampler: PerToken | None = None
    entropy: PerToken | None = None
    advantage: PerToken | None = None
    old: PerToken | None = None
    ref: PerToken | None = None
    weight: PerToken | None = None
    value: PerToken | None = None
    returns: PerToken | None = None
    carried: Mapping[str, float] = field(default_factory=dict)
    whole: PerToken | None = None
    key: RowGroups | None = None
    label: RowGroups | None = None
    age: RowGroups | None = None
    able: TokenMask | None = None
    kl_weight: PerToken | None = None
    unmoved: TokenMask | None = None

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Batch:
        """The batch of some groups, whose prompts are rendered (`prompt.tokens` is there).

        Of groups with `pairs` only the answers that are in one; where no group has any, all answers, passed over.
        """
        groups = [group for group in groups if group.pairs != ()] or [_passed(group) for group in groups]
        rows = [(index, rollout) for index, group in enumerate(groups) for rollout in group.learned]
        done = [rollout.completion for _, rollout in rows]
        lengths = torch.tensor([len(completion.tokens) for completion in done], dtype=torch.int64)
        scored = torch.tensor([rollout.reward is not None for _, rollout in rows], dtype=torch.bool)
        label = torch.tensor([int(rollout.label) for _, rollout in rows], dtype=torch.int64)
        row = torch.repeat_interleave(torch.arange(len(rows)), lengths)
        age = [groups[index].age for index, _ in rows]
        return cls(
            tokens=_flat([completion.tokens for completion in done], torch.int64),
            row=row,
            group=torch.tensor([index for index, _ in rows], dtype=torch.int64),
            prompts=tuple(torch.tensor(group.prompt.tokens, dtype=torch.int64) for group in groups),
            learn=(scored | (label != 0))[row],
            reward=torch.tensor([rollout.reward or 0.0 for _, rollout in rows], dtype=torch.float32),
            scored=scored,
            truncated=torch.tensor([completion.finish is Finish.LENGTH for completion in done], dtype=torch.bool),
            temperature=groups[0].transform.temperature if groups else 1.0,
            sampler=_complete([completion.logps for completion in done], lengths),
            entropy=_complete([completion.entropies for completion in done], lengths),
            key=torch.tensor([_key(groups[index], rollout) for index, rollout in rows], dtype=torch.int64),
            label=label if bool(label.any()) else None,
            age=None if set(age) <= {None} else torch.tensor([-1 if one is None else one for one in age]),
        )

    @property
    def rows(self) -> int:
        """How many completions there are."""
        return self.group.numel()

    @property
    def lengths(self) -> RowGroups:
        """How many completion tokens each row has."""
        return torch.bincount(self.row, minlength=self.rows)

    @property
    def size(self) -> int:
        """How many tokens are processed: those of the completions, and each prompt's once."""
        return self.tokens.numel() + sum(prompt.numel() for prompt in self.prompts)

    def replace(self, **changes: object) -> Batch:
        """This batch with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def old_or(self, now: PerToken) -> PerToken:
        """`old` where it is known; else the policy has not moved since it sampled, and old = now, detached."""
        if self.old is None:
            return now.detach()
        return self.old if self.unmoved is None else torch.where(self.unmoved, now.detach(), self.old)

    def to(self, device: torch.device | str) -> Batch:
        """This batch on another device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, prompts=tuple(prompt.to(device) for prompt in self.prompts), **moved)

    def take(self, rows: Tensor) -> Batch:
        """Only these rows (ascending indices), with rows and groups renumbered and unused prompts dropped."""
        chosen = torch.zeros(self.rows, dtype=torch.bool, device=self.row.device)
        chosen[rows] = True
        keep = chosen[self.row]
        renumber = torch.cumsum(chosen, 0) - 1
        used, group = torch.unique(self.group[chosen], return_inverse=True)
        parts: dict[str, object] = {name: v[keep] for name in PER_TOKEN if (v := getattr(self, name)) is not None}
        parts |= {name: v[chosen] for name in PER_ROW if (v := getattr(self, name)) is not None}
        parts |= {"row": renumber[self.row[keep]], "group": group}
        return replace(self, prompts=tuple(self.prompts[int(index)] for index in used), **parts)  # type: ignore[arg-type]

    def split(self, tokens: int) -> Iterator[Batch]:
        """Parts of a `size` of at most `tokens` (a prompt counts once in each part that uses it), in order.

        A single row longer than `tokens` is a part of its own. Memory only: weights are not touched. Groups with labels
        are not cut, since their rows are compared within the loss.
        """
        if self.label is not None:
            yield from self._whole(tokens)
            return
        lengths, groups = self.lengths.tolist(), self.group.tolist()
        part: list[int] = []
        size = 0
        for row, (length, group) in enumerate(zip(lengths, groups, strict=True)):
            shared = bool(part) and groups[part[-1]] == group
            cost = length + (0 if shared else self.prompts[group].numel())
            if part and size + cost > tokens:
                yield self.take(torch.tensor(part))
                part, size, cost = [], 0, length + self.prompts[group].numel()
            part.append(row)
            size += cost
        if part:
            yield self.take(torch.tensor(part))

    def _whole(self, tokens: int) -> Iterator[Batch]:
        """Parts of whole groups, of at most `tokens` processed tokens where a group is not longer than that."""
        rows = torch.zeros(len(self.prompts), dtype=torch.int64).index_add(0, self.group, self.lengths)
        part: list[int] = []
        size = 0
        for group, cost in enumerate((rows + torch.tensor([p.numel() for p in self.prompts])).tolist()):
            if part and size + cost > tokens:
                yield self.take(torch.nonzero(torch.isin(self.group, torch.tensor(part))).flatten())
                part, size = [], 0
            part.append(group)
            size += cost
        if part:
            yield self.take(torch.nonzero(torch.isin(self.group, torch.tensor(part))).flatten())


def _passed(group: Group) -> Group:
    """The group without pairs, of which no answer learns."""
    return replace(group, rollouts=tuple(replace(one, label=Label.PASSED) for one in group.rollouts), pairs=None)


def _key(group: Group, rollout: Rollout) -> int:
    """The seed of a row's draw; what stands for it where a row has none (-1)."""
    if rollout.seed >= 0:
        return rollout.seed
    return logged_seed(group.prompt.id, group.version, rollout.k, rollout.completion.text)


def _flat(values: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
    return torch.tensor([value for row in values for value in row], dtype=dtype)


def _complete(values: Sequence[Sequence[float]], lengths: Tensor) -> PerToken | None:
    """One value per token, or None where any row lacks them."""
    if any(len(row) != length for row, length in zip(values, lengths.tolist(), strict=True)):
        return None
    return _flat(values, torch.float32)
