"""Random batches, and a policy small enough to sum over every answer it can give."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor

from klimb.batch import Batch, Outputs
from klimb.objectives import (
    CISPO,
    DAPO,
    GRPO,
    GSPO,
    RLOO,
    RPG,
    DrGRPO,
    GSPOToken,
    Objective,
    Reinforce,
    ReinforcePP,
    ReinforcePPBaseline,
)
from klimb.objectives.penalty import KL

FORMS = [
    RPG(divergence=divergence, form=form)  # type: ignore[arg-type]
    for divergence in ("fkl", "rkl", "ufkl", "urkl", "jeffreys")
    for form in ("differentiable", "reinforce")
]


def changed(objective: Objective, **settings: Any) -> Any:
    """The same objective with other settings, checked again."""
    return type(objective).model_validate(objective.model_dump() | settings)


CLIPS: list[tuple[str, str, str]] = [
    (form, clip, kl)
    for form in ("differentiable", "reinforce")
    for clip in ("rpg", "dual", "cispo")
    for kl in ("inside", "outside")
    if (form, clip, kl) != ("differentiable", "cispo", "inside")
]
"""What an RPG loss may be made of, where it has a clip."""

REWARD = KL(where="reward", estimator="k1")
WAYS = {"loss": ("none", "attached", "detached"), "reward": ("none",)}
PENALTIES = [
    {"where": where, "estimator": estimator, "weighted": weighted}
    for where, weights in WAYS.items()
    for weighted in weights
    for estimator in ("k1", "k2", "k3")
]
"""Every way in which a KL may enter."""


EVERY: list[Objective] = [
    *(Reinforce(baseline=baseline) for baseline in ("none", "batch", "group", "leave_one_out")),  # type: ignore[arg-type]
    Reinforce(level="sequence"),
    GRPO(),
    GRPO(beta=0.1, eps_high=0.28),
    RLOO(),
    DrGRPO(length=7),
    DAPO(),
    DAPO(length=5, buffer=3),
    GSPO(eps_low=0.1, eps_high=0.1),
    CISPO(cap=1.5),
    ReinforcePP(),
    ReinforcePPBaseline(beta=0.1),
    GSPOToken(eps_low=0.1, eps_high=0.1),
    Reinforce(baseline="moving"),
    RLOO(beta=0.1),
    ReinforcePP(beta=0.1),
    GSPOToken(beta=0.1, kl=REWARD, eps_low=0.1, eps_high=0.1),
    DAPO(beta=0.1, kl=REWARD),
    ReinforcePPBaseline(beta=0.1, kl=REWARD),
    DrGRPO(length=7, beta=0.1),
    CISPO(cap=1.5, beta=0.1),
    GSPO(eps_low=0.1, eps_high=0.1, beta=0.1),
    *(Reinforce(level="sequence", beta=0.1, kl=kl) for kl in PENALTIES[1::4]),  # type: ignore[arg-type]
    *(GRPO(beta=0.1, kl=kl) for kl in PENALTIES),  # type: ignore[arg-type]
    *(
        changed(FORMS[i % len(FORMS)], form=form, clip=clip, kl=kl, cap=1.5, beta=0.3, reference="initial")
        for i, (form, clip, kl) in enumerate(CLIPS)
    ),
    *FORMS,
    *(changed(form, reference="initial", beta=0.05) for form in FORMS),
    *(changed(form, level="sequence", clip="none", beta=0.5) for form in FORMS),
]


def named(objective: Objective) -> str:
    """The settings that are not the default, for a test's name."""
    chosen = objective.model_dump(exclude_defaults=True).values()
    return "-".join([type(objective).__name__, *map(str, chosen)])


def without_clip(objective: Objective) -> Objective:
    """The same objective with bounds that nothing reaches."""
    wide = {"eps_low": 1.0, "eps_high": 1e9, "cap": 1e9, "c": 1e9}
    return changed(objective, **{name: wide[name] for name in wide if name in type(objective).model_fields})  # type: ignore[no-any-return]


def without_divergence(objective: Objective) -> Objective:
    """The same objective without a KL term."""
    return changed(objective, beta=0.0) if "beta" in type(objective).model_fields else objective


def batch(seed: int = 0, prompts: int = 4, unscored: bool = True) -> Batch:
    """Random groups of one to four answers of one to five tokens, in float64, on- and off-policy fields filled.

    One group has equal rewards, and (`unscored`) some rows have no score.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(count: int, scale: float) -> Tensor:
        return torch.randn(count, generator=draw, dtype=torch.float64) * scale

    sizes = torch.randint(1, 5, (prompts,), generator=draw)
    group = torch.repeat_interleave(torch.arange(prompts), sizes)
    row = torch.repeat_interleave(torch.arange(len(group)), torch.randint(1, 6, (len(group),), generator=draw))
    scored = torch.rand(len(group), generator=draw) < (0.8 if unscored else 2.0)
    reward = torch.where(group == 1, torch.full((len(group),), 0.1, dtype=torch.float64), normal(len(group), 1.0))
    old = -torch.rand(len(row), generator=draw, dtype=torch.float64) * 3 - 0.01
    return Batch(
        tokens=torch.randint(0, 9, (len(row),), generator=draw),
        row=row,
        group=group,
        prompts=tuple(torch.zeros(2, dtype=torch.int64) for _ in range(prompts)),
        learn=scored[row] & (torch.rand(len(row), generator=draw) < 0.9),
        reward=reward,
        scored=scored,
        truncated=torch.zeros(len(group), dtype=torch.bool),
        old=old,
        ref=old + normal(len(row), 0.5),
    )


def ready(objective: Objective, batch: Batch) -> Batch:
    """With advantages and weights, as the training step makes them."""
    batch = objective.advantage(batch)
    return batch.replace(weight=objective.weighting(batch).to(torch.float64))


def moved(batch: Batch, seed: int = 1, scale: float = 0.4) -> Tensor:
    """Log-probs of a policy that has moved away from the one that sampled: a leaf."""
    draw = torch.Generator().manual_seed(seed)
    assert batch.old is not None
    step = torch.randn(len(batch.old), generator=draw, dtype=torch.float64) * scale
    return (batch.old + step).requires_grad_()


def outputs(logp: Tensor) -> Outputs:
    """What a policy says, as far as objectives look."""
    return Outputs(logp, torch.zeros_like(logp))


def update(objective: Objective, batch: Batch, logp: Tensor) -> tuple[dict[str, float], Tensor]:
    """Loss and metrics, and the gradient with respect to each token's log-prob."""
    terms = objective.loss(outputs(logp), batch)
    (gradient,) = torch.autograd.grad(terms.loss, logp)
    return {"loss": float(terms.loss.detach()), **{k: float(v) for k, v in terms.metrics.items()}}, gradient


class Enumerable:
    """An autoregressive policy over `words` words, word 0 ending an answer, answers of at most `length` words."""

    def __init__(self, words: int = 3, length: int = 3) -> None:
        prefixes = [p for n in range(length) for p in product(range(1, words), repeat=n)]
        self.place = {prefix: index for index, prefix in enumerate(prefixes)}
        self.words = words
        self.answers = [(*p, 0) for p in prefixes]
        self.answers += [(*p, w) for p in prefixes if len(p) == length - 1 for w in range(1, words)]
        self.row = torch.tensor([i for i, answer in enumerate(self.answers) for _ in answer])
        self.tokens = torch.tensor([word for answer in self.answers for word in answer])
        self.at = torch.tensor([self.place[a[:k]] for a in self.answers for k in range(len(a))])

    def draw(self, seed: int, scale: float = 1.0) -> Tensor:
        """Random parameters: a row of logits for each prefix."""
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(len(self.place), self.words, generator=draw, dtype=torch.float64) * scale

    def logp(self, theta: Tensor) -> Tensor:
        """The log-prob of each token of each answer, answers in order."""
        return theta.log_softmax(-1)[self.at, self.tokens]

    def whole(self, logp: Tensor) -> Tensor:
        """The log-prob of each answer."""
        return torch.zeros(len(self.answers), dtype=logp.dtype).index_add(0, self.row, logp)

    def batch(self, reward: Tensor, old: Tensor, ref: Tensor) -> Batch:
        """Every answer once, weighing as much as the old policy is likely to give it: its sum is the expectation."""
        lengths = torch.tensor([len(answer) for answer in self.answers])
        everyone = torch.ones(len(self.answers), dtype=torch.bool)
        return Batch(
            tokens=self.tokens,
            row=self.row,
            group=torch.zeros(len(self.answers), dtype=torch.int64),
            prompts=(torch.zeros(1, dtype=torch.int64),),
            learn=torch.ones(len(self.row), dtype=torch.bool),
            reward=reward,
            scored=everyone,
            truncated=~everyone,
            advantage=reward[self.row],
            old=old,
            ref=ref,
            weight=(self.whole(old).exp() / lengths)[self.row],
        )
