"""Log-probs and entropies from hidden states without a logits matrix, and their backward pass, both written here.

The vocabulary is walked in tiles that stay in the processor's cache. What the forward pass keeps is exp(z - m), in the
compute precision, where it fits in `KEEP_BYTES`: with it the backward pass is matrix multiplications only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from klimb.policy import sinking

TILE_BYTES = 6 << 20
"""The size of a tile of logits in float32."""
KEEP_BYTES = 256 << 20
"""The most that one forward pass keeps for its backward pass; beyond it, the tiles are computed again."""
FAR = 60.0
"""A token less likely than exp(-FAR) is one whose own probability does not count in its gradient 1 - p."""


@dataclass(frozen=True, slots=True)
class HeadRule:
    """What a model does to its logits after the output layer: z -> cap * tanh(scale * z / cap)."""

    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, config: Any) -> HeadRule:
        """Reads the rule from a model's configuration (Gemma 2 and 3, Cohere, Granite)."""
        scale = float(getattr(config, "logit_scale", None) or 1.0)
        divisor = float(getattr(config, "logits_scaling", None) or 1.0)
        return cls(scale / divisor, getattr(config, "final_logit_softcapping", None))


def token_logps(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tokens: Tensor,
    rule: HeadRule,
    temperature: float,
    keep_bytes: int = KEEP_BYTES,
) -> tuple[Tensor, Tensor]:
    """The log-prob (differentiable) and the entropy (detached) of each token, float32, nats.

    `hidden` is (t, d), `weight` (v, d), `bias` (v) or None, `tokens` (t); the distribution is
    softmax(logits / temperature).
    """
    head = Head(weight, bias, tokens, rule, temperature)
    keeps = torch.is_grad_enabled() and hidden.shape[0] * weight.shape[0] * weight.element_size() <= keep_bytes
    logp, entropy = cast(Any, _TokenLogps).apply(hidden, weight, bias, head, keeps)
    return logp, entropy


def logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, rule: HeadRule, temperature: float
) -> Tensor:
    """The whole rows of logits over the temperature (t, v), float32, without gradients: for a few tokens at a time."""
    head = Head(weight, bias, tokens, rule, temperature)
    return head.scores(hidden, head.chosen(hidden), slice(0, weight.shape[0]))[0]


@dataclass(frozen=True, slots=True)
class Head:
    """The output layer applied to some tokens, a tile of the vocabulary at a time."""

    weight: Tensor
    bias: Tensor | None
    tokens: Tensor
    rule: HeadRule
    temperature: float

    def tiles(self) -> Iterator[slice]:
        """The vocabulary in slices of equal width; the last may be narrower."""
        width = max(256, TILE_BYTES // (4 * max(1, self.tokens.numel())) // 64 * 64)
        return (slice(start, start + width) for start in range(0, self.weight.shape[0], width))

    def chosen(self, hidden: Tensor) -> Tensor:
        """The logit of each token itself before rule and bias, float32: the point around which its row is computed."""
        return (hidden.float() * self.weight[self.tokens].float()).sum(-1)

    def scores(self, hidden: Tensor, centre: Tensor, tile: slice) -> tuple[Tensor, Tensor | None]:
        """The tile's logits over the temperature (t, s), float32, and their slope with respect to z where not constant.

        A product of bfloat16 matrices is rounded to bfloat16, that is to 0.06 nats for a logit of 20. Here -centre is
        added inside the multiplication, before the rounding: what is near the token's own logit keeps its digits.
        """
        rounded = centre.to(hidden.dtype)
        product = (-rounded)[:, None].expand(-1, self.weight[tile].shape[0]).contiguous()
        scores = product.addmm_(hidden, self.weight[tile].T).float().add_(rounded.float()[:, None])
        return self.transformed(scores if self.bias is None else scores.add_(self.bias[tile].float()))

    def weights(self, hidden: Tensor, centre: Tensor, norm: Tensor, tile: slice) -> Tensor:
        """exp(z - norm) times the softcap's slope, in the compute precision: (t, s)."""
        scores, slope = self.scores(hidden, centre, tile)
        weights = scores.sub_(norm[:, None]).exp_()
        return (weights if slope is None else weights.mul_(slope)).to(hidden.dtype)

    def put_own(self, weights: Tensor, tile: slice, rise: Tensor, logp: Tensor, slope: Tensor | None) -> None:
        """Puts p - 1 in place of p at each token of the tile, in units of exp(-rise).

        From log p and in float32: written as a difference, p - 1 would lose its digits where p is near 1.
        """
        here = ((self.tokens >= tile.start) & (self.tokens < tile.stop) & (logp > -FAR)).nonzero()[:, 0]
        own = rise[here].exp_() * torch.expm1(logp[here])
        own = own if slope is None else own.mul_(slope[here])
        weights[here, self.tokens[here] - tile.start] = own.to(weights.dtype)

    def transformed(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rule and temperature, in place; and the softcap's slope, d cap*tanh(x/cap) / dx = 1 - tanh^2(x/cap)."""
        if self.rule.softcap is None:
            return scores.mul_(self.rule.scale / self.temperature), None
        scores.mul_(self.rule.scale / self.rule.softcap).tanh_()
        slope = 1.0 - scores.square()
        return scores.mul_(self.rule.softcap / self.temperature), slope


class _TokenLogps(torch.autograd.Function):
    """d logp[t] / d z[t, v] = (1[v = token] - p[t, v]) * scale / temperature * slope."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, head: Head, keeps: bool
    ) -> tuple[Tensor, Tensor]:
        centre = head.chosen(hidden)
        own = centre if bias is None else centre + bias[head.tokens].float()
        own, own_slope = head.transformed(own.clone())
        most, total, spread = own.clone(), torch.zeros_like(own), torch.zeros_like(own)
        kept: list[tuple[Tensor, Tensor]] = []
        for tile in head.tiles():
            scores, slope = head.scores(hidden, centre, tile)
            higher = torch.maximum(most, scores.amax(-1))
            shrink = (most - higher).exp_()
            scores.sub_(higher[:, None])
            weights = scores.exp()
            # entropy = log(sum e^z) - sum z e^z / sum e^z, with z counted from the highest so far
            spread = shrink * (spread + total * (most - higher)) + torch.linalg.vecdot(weights, scores)
            total = shrink * total + weights.sum(-1)
            most = higher
            if keeps:
                kept.append(((weights if slope is None else weights.mul_(slope)).to(hidden.dtype), higher))
        norm = total.log() + most
        logp, entropy = own - norm, (total.log() - spread / total).clamp_(min=0.0)
        tiles, highs = [part for part, _ in kept], [high for _, high in kept]
        for tile, part, high in zip(head.tiles(), tiles, highs, strict=False):
            head.put_own(part, tile, norm - high, logp, own_slope)
        ctx.save_for_backward(hidden, weight, bias, centre, logp, norm, own_slope, *tiles, *highs)
        ctx.head = head
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, centre, logp, norm, own_slope, *kept = ctx.saved_tensors
        used: Any = grad.nonzero()[:, 0]
        if used.numel() == grad.numel():
            used = slice(None)
        head = replace(ctx.head, tokens=ctx.head.tokens[used])
        part, centre, logp, norm = hidden[used], centre[used], logp[used], norm[used]
        own_slope = None if own_slope is None else own_slope[used]
        step = grad[used].float() * (head.rule.scale / head.temperature)
        sums = Sums.of(weight, bias, part, ctx.needs_input_grad, sinking.of(head.weight))
        for number, tile in enumerate(ctx.head.tiles()):
            if kept:
                weights, high = kept[number][used], kept[number + len(kept) // 2][used]
            else:
                weights, high = head.weights(part, centre, norm, tile), norm
                head.put_own(weights, tile, norm - high, logp, own_slope)
            sums.add(weights, -step * (high - norm).exp_(), tile)
        far = (logp <= -FAR).nonzero()[:, 0]
        sums.add_own(head.tokens[far], far, (step if own_slope is None else step * own_slope)[far])
        return sums.spread(used, hidden), None if sums.sunk else sums.weight_grad, sums.bias_grad, None, None


@dataclass(slots=True)
class Sums:
    """The three gradients while they grow."""

    weight: Tensor
    part: Tensor
    hidden_grad: Tensor | None
    weight_grad: Tensor | None
    bias_grad: Tensor | None
    sunk: bool
    """Whether the weight's gradient is added to a sum that is there."""

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, part: Tensor, wanted: Sequence[bool], total: Tensor | None
    ) -> Sums:
        sunk = total is not None and wanted[1]
        return cls(
            weight,
            part,
            torch.zeros_like(part, dtype=torch.float32) if wanted[0] else None,
            total if sunk else torch.empty_like(weight) if wanted[1] else None,
            torch.empty_like(bias) if bias is not None and wanted[2] else None,
            sunk,
        )

    def add(self, weights: Tensor, factor: Tensor, tile: slice) -> None:
        """Adds what comes through a tile of the logits, whose gradient is factor[t] * weights[t, v]."""
        if self.hidden_grad is not None:
            self.hidden_grad.addcmul_((weights @ self.weight[tile]).float(), factor[:, None])
        if self.weight_grad is not None:
            scaled = (self.part * factor[:, None]).to(weights.dtype)
            if self.sunk:
                self.weight_grad[tile].add_(weights.T @ scaled)
            else:
                torch.mm(weights.T, scaled, out=self.weight_grad[tile])
        if self.bias_grad is not None:
            self.bias_grad[tile] = factor @ weights.float()

    def add_own(self, tokens: Tensor, rows: Tensor, factor: Tensor) -> None:
        """Adds factor[i] at the logit of tokens[i] in row rows[i]."""
        if tokens.numel() == 0:
            return
        if self.hidden_grad is not None:
            self.hidden_grad[rows] += factor[:, None] * self.weight[tokens]
        if self.weight_grad is not None:
            self.weight_grad.index_add_(0, tokens, (self.part[rows] * factor[:, None]).to(self.weight_grad.dtype))
        if self.bias_grad is not None:
            self.bias_grad.index_add_(0, tokens, factor.to(self.bias_grad.dtype))

    def spread(self, rows: Any, hidden: Tensor) -> Tensor | None:
        """The gradient of the hidden states; zero where no gradient came in."""
        if self.hidden_grad is None:
            return None
        grad = self.hidden_grad.to(hidden.dtype)
        return grad if isinstance(rows, slice) else torch.zeros_like(hidden).index_copy_(0, rows, grad)
