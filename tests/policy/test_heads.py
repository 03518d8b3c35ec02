"""The chunked output layer: log-probs, entropies and gradients are those of the full logits matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from klimb.policy import heads
from klimb.policy.heads import HeadRule, token_logps

RULES = [HeadRule(), HeadRule(0.3), HeadRule(1.0, 10.0), HeadRule(0.5, 5.0)]


def full(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, rule: HeadRule, t: float
) -> tuple[Tensor, Tensor]:
    logits = (hidden @ weight.T if bias is None else hidden @ weight.T + bias) * rule.scale
    if rule.softcap:
        logits = torch.tanh(logits / rule.softcap) * rule.softcap
    every = (logits / t).log_softmax(-1)
    return every.gather(1, tokens[:, None])[:, 0], -(every.exp() * every).sum(-1)


def inputs(bias: bool, spread: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(37, 16), (1000, 16)] + ([(1000,)] if bias else [])
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    leaves[0] *= spread
    tokens = torch.randint(1000, (37,), generator=generator)
    step = torch.randn(37, generator=generator, dtype=torch.float64)
    step[3:9] = 0.0
    return [leaf.to(dtype).requires_grad_() for leaf in leaves], tokens, step


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("keep", [0, 1 << 30], ids=["recomputed", "kept"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tiles_give_what_the_whole_logits_give(
    rule: HeadRule, bias: bool, keep: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "TILE_BYTES", 1)  # the narrowest tiles: four of them
    exact, tokens, step = inputs(bias)
    logp, entropy = full(exact[0], exact[1], exact[2] if bias else None, tokens, rule, temperature)
    (logp * step).sum().backward()
    ours = [leaf.detach().float().requires_grad_() for leaf in exact]
    found, spread = token_logps(ours[0], ours[1], ours[2] if bias else None, tokens, rule, temperature, keep)
    (found * step.float()).sum().backward()
    torch.testing.assert_close(found.double(), logp, atol=1e-4, rtol=0)
    torch.testing.assert_close(spread.double(), entropy, atol=1e-4, rtol=0)
    for leaf, truth in zip(ours, exact, strict=True):
        assert leaf.grad is not None and truth.grad is not None
        assert float((leaf.grad - truth.grad).norm() / truth.grad.norm()) < 1e-5


@pytest.mark.parametrize("keep", [0, 1 << 30], ids=["recomputed", "kept"])
def test_a_token_with_no_incoming_gradient_gets_exactly_none(keep: int) -> None:
    leaves, tokens, step = inputs(True, dtype=torch.float32)
    logp, _ = token_logps(leaves[0], leaves[1], leaves[2], tokens, HeadRule(), 1.0, keep)
    (logp * step.float()).sum().backward()
    assert leaves[0].grad is not None
    assert bool((leaves[0].grad[3:9] == 0.0).all())
    assert bool((leaves[0].grad[9:] != 0.0).any(-1).all())


def test_when_no_token_learns_every_gradient_is_zero() -> None:
    leaves, tokens, step = inputs(False, dtype=torch.float32)
    logp, _ = token_logps(leaves[0], leaves[1], None, tokens, HeadRule(), 1.0)
    (logp * step.float() * 0.0).sum().backward()
    assert all(leaf.grad is not None and not bool(leaf.grad.any()) for leaf in leaves)


def test_hopeless_tokens_keep_finite_log_probs_and_full_gradients() -> None:
    exact, tokens, step = inputs(False, spread=40.0)
    logp, _ = full(exact[0], exact[1], None, tokens, HeadRule(), 1.0)
    assert float(logp.min().detach()) < -500
    (logp * step).sum().backward()
    ours = [leaf.detach().float().requires_grad_() for leaf in exact]
    found, entropy = token_logps(ours[0], ours[1], None, tokens, HeadRule(), 1.0)
    (found * step.float()).sum().backward()
    torch.testing.assert_close(found.double(), logp, atol=1e-3, rtol=1e-5)
    assert bool(torch.isfinite(entropy).all())
    for leaf, truth in zip(ours, exact, strict=True):
        assert leaf.grad is not None and truth.grad is not None
        assert float((leaf.grad - truth.grad).norm() / truth.grad.norm()) < 1e-4


def test_in_bfloat16_log_probs_are_ten_times_closer_than_rounded_logits() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(64, 128, generator=generator).bfloat16()
    weight = (torch.randn(2000, 128, generator=generator) * 0.7).bfloat16()
    logits = hidden.double() @ weight.double().T
    tokens = logits.argmax(-1)
    truth = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    rounded = (hidden @ weight.T).float().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    ours, _ = token_logps(hidden, weight, None, tokens, HeadRule(), 1.0)
    assert float((ours - truth).abs().mean()) * 10 < float((rounded - truth).abs().mean())


def test_a_nearly_certain_token_keeps_the_digits_of_its_small_gradient_in_bfloat16() -> None:
    hidden = torch.zeros(1, 8).bfloat16()
    hidden[0, 0] = 8.0
    weight = torch.zeros(300, 8).bfloat16()
    weight[7, 0] = 2.0
    leaf = weight.clone().requires_grad_()
    logp, _ = token_logps(hidden, leaf, None, torch.tensor([7]), HeadRule(), 1.0)
    logp.sum().backward()
    exact = weight.double().requires_grad_()
    (hidden.double() @ exact.T).log_softmax(-1)[0, 7].backward()
    assert leaf.grad is not None and exact.grad is not None
    assert float(logp.detach()) > -1e-4
    torch.testing.assert_close(leaf.grad[7, 0].double(), exact.grad[7, 0], rtol=0.03, atol=0)


def test_no_tokens_give_nothing_and_do_not_fail() -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    logp, entropy = token_logps(hidden, torch.ones(9, 4), None, torch.zeros(0, dtype=torch.int64), HeadRule(), 1.0)
    assert logp.shape == entropy.shape == (0,)
    logp.sum().backward()
