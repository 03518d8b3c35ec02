"""The exact KL of next-token distributions of two policies, from hidden states without a matrix of logits.

The vocabulary is walked in the tiles of `heads`, once forward and once backward; nothing of a tile is kept in between.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from klimb.policy import sinking
from klimb.policy.heads import Head, Sums


def next_token_kl(hidden: Tensor, other: Tensor, ours: Head, theirs: Head) -> Tensor:
    """KL(p||q) = sum_v p log(p/q) of each place (t), float32, nats, never below zero.

    p is `ours` of `hidden` (t, d), in which and in whose weights it is differentiable; q is `theirs` of `other` (t, d).
    """
    found: Tensor = cast(Any, _NextTokenKL).apply(hidden, ours.weight, ours.bias, other, ours, theirs)
    return found


class _NextTokenKL(torch.autograd.Function):
    """d KL[t] / d z[t, v] = p[t, v] * (g[t, v] - sum_w p[t, w] g[t, w]) * scale / temperature * slope, g = z - u.

    z and u are the two policies' logits over the temperature.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor, ours: Head, theirs: Head
    ) -> Tensor:
        centre, far = ours.chosen(hidden), theirs.chosen(other)
        most, highest = (torch.full_like(centre, -torch.inf) for _ in range(2))
        total, mass, drift = (torch.zeros_like(centre) for _ in range(3))
        for tile in ours.tiles():
            scores, theirs_too = ours.scores(hidden, centre, tile)[0], theirs.scores(other, far, tile)[0]
            gap = scores - theirs_too
            higher, top = torch.maximum(most, scores.amax(-1)), torch.maximum(highest, theirs_too.amax(-1))
            shares = scores.sub_(higher[:, None]).exp_()
            shrink = (most - higher).exp_()
            drift = shrink * drift + torch.linalg.vecdot(shares, gap)
            total = shrink * total + shares.sum(-1)
            mass = (highest - top).exp_() * mass + theirs_too.sub_(top[:, None]).exp_().sum(-1)
            most, highest = higher, top
        norm, mean = total.log() + most, drift / total
        ctx.save_for_backward(hidden, weight, bias, other, centre, far, norm, mean)
        ctx.ours, ctx.theirs = ours, theirs
        return (mean - norm + mass.log() + highest).clamp_(min=0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, other, centre, far, norm, mean = ctx.saved_tensors
        used = grad.nonzero()[:, 0]
        ours, theirs = (replace(one, tokens=one.tokens[used]) for one in (ctx.ours, ctx.theirs))
        part, apart, centre, far = hidden[used], other[used], centre[used], far[used]
        norm, mean = norm[used, None], mean[used, None]
        step = grad[used].float() * (ours.rule.scale / ours.temperature)
        sums = Sums.of(weight, bias, part, ctx.needs_input_grad, sinking.of(weight))
        for tile in ours.tiles():
            scores, slope = ours.scores(part, centre, tile)
            gap = (scores - theirs.scores(apart, far, tile)[0]).sub_(mean)
            pull = scores.sub_(norm).exp_().mul_(gap)
            sums.add((pull if slope is None else pull.mul_(slope)).to(hidden.dtype), step, tile)
        return sums.spread(used, hidden), None if sums.sunk else sums.weight_grad, sums.bias_grad, None, None, None
