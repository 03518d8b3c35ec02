"""The exact KL to a reference at each token: that of the whole logits, with its gradients, and no matrix of logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from klimb import functional as F
from klimb.batch import Batch
from klimb.errors import ModelError
from klimb.policy import heads
from klimb.policy.against import Against
from klimb.policy.divergences import next_token_kl
from klimb.policy.heads import Head, HeadRule
from klimb.types import Label
from tests.policy.test_heads import RULES
from tests.policy.zoo import CONFIGS, batch_of, gradients, largest_gap, model_of, policy_of

PLACES, WORDS, WIDTH = 37, 1000, 16


def drawn(seed: int, bias: bool) -> list[Tensor]:
    """Hidden states, an output layer and perhaps its bias, float64."""
    draw = torch.Generator().manual_seed(seed)
    shapes = [(PLACES, WIDTH), (WORDS, WIDTH)] + ([(WORDS,)] if bias else [])
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]


def head_of(parts: list[Tensor], rule: HeadRule, temperature: float) -> Head:
    tokens = torch.randint(WORDS, (PLACES,), generator=torch.Generator().manual_seed(2))
    return Head(parts[1], parts[2] if len(parts) > 2 else None, tokens, rule, temperature)


def full(parts: list[Tensor], rule: HeadRule, temperature: float) -> Tensor:
    logits = (parts[0] @ parts[1].T + (parts[2] if len(parts) > 2 else 0.0)) * rule.scale
    return (torch.tanh(logits / rule.softcap) * rule.softcap if rule.softcap else logits) / temperature


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_tiles_give_the_kl_and_the_gradients_of_the_whole_logits(
    rule: HeadRule, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "TILE_BYTES", 1)  # the narrowest tiles: four of them
    ours, theirs = drawn(0, bias), drawn(1, bias)
    step = torch.randn(PLACES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    step[3:9] = 0.0
    exact = [leaf.clone().requires_grad_() for leaf in ours]
    wanted = F.divergence.exact(full(exact, rule, 0.7), full(theirs, rule, 0.7))
    (wanted * step).sum().backward()
    leaves, other = [leaf.float().requires_grad_() for leaf in ours], [leaf.float() for leaf in theirs]
    found = next_token_kl(leaves[0], other[0], head_of(leaves, rule, 0.7), head_of(other, rule, 0.7))
    (found * step.float()).sum().backward()
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)
    for leaf, truth in zip(leaves, exact, strict=True):
        assert leaf.grad is not None and truth.grad is not None
        assert float((leaf.grad - truth.grad).norm() / truth.grad.norm()) < 1e-5
    assert leaves[0].grad is not None and not leaves[0].grad[3:9].any()


def test_of_a_policy_to_itself_kl_and_gradients_are_exactly_zero() -> None:
    leaves = [leaf.float().requires_grad_() for leaf in drawn(0, True)]
    head = head_of(leaves, HeadRule(), 1.0)
    found = next_token_kl(leaves[0], leaves[0].detach(), head, replace(head, weight=leaves[1].detach()))
    found.sum().backward()
    assert found.tolist() == pytest.approx([0.0] * PLACES, abs=1e-6) and float(found.detach().min()) >= 0.0
    assert all(leaf.grad is not None and not leaf.grad.any() for leaf in leaves)


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.most = max(self.most, out.numel())
        return out


def test_forward_and_backward_hold_no_matrix_of_tokens_by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "TILE_BYTES", 1)
    leaves, other = [leaf.float().requires_grad_() for leaf in drawn(0, False)], [x.float() for x in drawn(1, False)]
    with Largest() as seen:
        next_token_kl(
            leaves[0], other[0], head_of(leaves, HeadRule(), 1.0), head_of(other, HeadRule(), 1.0)
        ).sum().backward()
    assert WORDS * WIDTH <= seen.most < PLACES * WORDS / 2


def labelled() -> Batch:
    """A pair, and two prompts with samples."""
    kinds = [Label.CHOSEN, Label.REJECTED, *[Label.FRESH] * 4]
    return batch_of(rows=((0, 7), (0, 1), (1, 12), (1, 5), (2, 3), (2, 8))).replace(label=torch.tensor(kinds))


def every(model: Any, batch: Batch) -> Tensor:
    """The logits that predict each completion token, by a plain pass of each sequence alone."""
    parts = []
    for row in range(batch.rows):
        prompt, own = batch.prompts[int(batch.group[row])], batch.tokens[batch.row == row]
        parts.append(model(torch.cat([prompt, own])[None]).logits[0, len(prompt) - 1 : -1])
    return torch.cat(parts)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_policy_against_a_reference_has_the_samples_exact_kl_with_its_gradient_in_every_weight(name: str) -> None:
    policy, reference = policy_of(CONFIGS[name]), policy_of(CONFIGS[name])
    reference.model.load_state_dict(model_of(CONFIGS[name], seed=1).state_dict())
    batch = labelled()
    fresh = (batch.label == Label.FRESH)[batch.row]  # type: ignore[index]
    with torch.no_grad():
        theirs = every(reference.model, batch)
    wanted = torch.where(fresh, F.divergence.exact(every(policy.model, batch), theirs), torch.zeros(()))
    slope = gradients(policy.model, wanted.sum())
    now = Against(policy, reference)(batch)
    assert now.divergence is not None and torch.equal(now.logp, policy(batch).logp)
    torch.testing.assert_close(now.divergence, wanted, atol=1e-4, rtol=1e-4)
    assert largest_gap(gradients(policy.model, now.divergence.sum()), slope) < 1e-3
    assert float(wanted[fresh].detach().min()) > 0.01 and not now.divergence[~fresh].any()


def test_what_has_no_labels_was_drawn_and_what_has_only_given_answers_has_no_kl() -> None:
    policy, reference = policy_of(CONFIGS["llama"]), policy_of(CONFIGS["gpt2"])
    batch = labelled()
    unnamed = Against(policy, reference)(batch.replace(label=None)).divergence
    pairs = Against(policy, reference)(batch.take(torch.arange(2))).divergence
    assert unnamed is not None and bool((unnamed > 0).all()) and pairs is not None and not pairs.any()
    with torch.no_grad():
        assert Against(policy, reference)(batch).divergence is None, "measuring the old policy asks for none"


def test_a_model_whose_own_logits_are_used_is_refused_with_the_estimator_that_works() -> None:
    policy = policy_of(CONFIGS["llama"])
    policy.path = replace(policy.path.fallback, rule=None)  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"try: objective\.estimator=reward_to_go"):
        Against(policy, policy)
