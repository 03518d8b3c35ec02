"""Log-probs and entropies from hidden states, in chunks, without a logits matrix; the backward pass is written here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

CHUNK_BYTES = 8 << 20
"""The size of a chunk's logits in float32: small enough to stay in a processor's cache."""


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

    def apply(self, logits: Tensor) -> Tensor:
        """The model's own logits."""
        logits = logits * self.scale if self.scale != 1.0 else logits
        return torch.tanh(logits / self.softcap) * self.softcap if self.softcap else logits


def token_logps(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, rule: HeadRule, temperature: float
) -> tuple[Tensor, Tensor]:
    """The log-prob (differentiable) and the entropy (detached) of each token, float32, nats.

    `hidden` is (t, d), `weight` (v, d), `bias` (v) or None, `tokens` (t); the distribution is
    softmax(logits / temperature).
    """
    logp, entropy = cast(Any, _TokenLogps).apply(hidden, weight, bias, tokens, rule, temperature)
    return logp, entropy


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        rule: HeadRule,
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        size = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
        logps, entropies, norms = [], [], []
        for part, ids in zip(torch.split(hidden, size), torch.split(tokens, size), strict=True):
            scores = _scores(part, weight, bias, rule, temperature)
            norm = scores.logsumexp(-1)
            logps.append(scores.gather(-1, ids[:, None])[:, 0] - norm)
            entropies.append(norm - (scores.sub(norm[:, None]).exp_() * scores).sum(-1))
            norms.append(norm)
        empty = hidden.new_empty(0, dtype=torch.float32)
        logp, entropy = (torch.cat(x) if x else empty for x in (logps, entropies))
        ctx.save_for_backward(hidden, weight, bias, tokens, torch.cat(norms) if norms else empty)
        ctx.rule, ctx.temperature, ctx.size = rule, temperature, size
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, tokens, norms = ctx.saved_tensors
        rule: HeadRule = ctx.rule
        used = grad.nonzero()[:, 0]
        grad_hidden = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for index in torch.split(used, ctx.size):
            part, ids = hidden[index], tokens[index]
            scores = _scores(part, weight, bias, rule, ctx.temperature)
            slope = scores.sub(norms[index][:, None]).exp_().neg_()
            slope[torch.arange(len(index), device=slope.device), ids] += 1.0
            slope *= grad[index][:, None].float() * (rule.scale / ctx.temperature)
            if rule.softcap:
                slope *= 1.0 - (scores * (ctx.temperature / rule.softcap)).square()
            slope = slope.to(weight.dtype)
            if grad_hidden is not None:
                grad_hidden[index] = slope @ weight
            if grad_weight is not None:
                grad_weight.addmm_(slope.T, part)
            if grad_bias is not None:
                grad_bias += slope.sum(0)
        return grad_hidden, grad_weight, grad_bias, None, None, None


def _scores(hidden: Tensor, weight: Tensor, bias: Tensor | None, rule: HeadRule, temperature: float) -> Tensor:
    """The logits over the temperature in float32: (chunk, v)."""
    logits = torch.nn.functional.linear(hidden, weight, bias).float()
    return rule.apply(logits) / temperature
