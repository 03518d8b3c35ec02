"""The packed, prefix-shared pass says what a plain forward pass of each sequence alone says, for many architectures."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from klimb.batch import Batch, Outputs
from klimb.objectives import GRPO
from klimb.policy import attention
from klimb.policy.policy import Policy
from klimb.policy.recomputing import recompute_beyond
from tests.policy.zoo import CONFIGS, alone, batch_of, gradients, largest_gap, model_of, policy_of

EVERY = pytest.mark.parametrize("name", CONFIGS)


@EVERY
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_packed_log_probs_entropies_and_gradients_are_those_of_each_sequence_alone(
    name: str, temperature: float
) -> None:
    policy = policy_of(CONFIGS[name], path="packed")
    batch = batch_of(temperature=temperature)
    truth, entropy = alone(policy.model, batch)
    assert batch.weight is not None
    wanted = gradients(policy.model, (batch.weight * truth).sum())
    outputs = policy(batch)
    torch.testing.assert_close(outputs.logp, truth, atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs.entropy, entropy, atol=1e-4, rtol=0)
    assert not outputs.entropy.requires_grad
    assert outputs.logp.dtype == outputs.entropy.dtype == torch.float32
    found = gradients(policy.model, (batch.weight * outputs.logp).sum())
    assert largest_gap(found, wanted) < 1e-4


def apart(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The distance of two gradients, all weights together, relative to the norm of the second."""
    gaps = [(found[weight].double() - wanted[weight].double()).norm() for weight in wanted]
    return float(torch.stack(gaps).norm() / torch.stack([grad.double().norm() for grad in wanted.values()]).norm())


def to_learn(policy: Policy) -> tuple[Batch, Outputs]:
    """A batch with advantages and the log-probs of a policy near by, and what a plain pass says of each sequence."""
    batch = batch_of()
    plain = Outputs(*alone(policy.model, batch))
    draw = torch.Generator().manual_seed(0)
    old = plain.logp.detach() + 0.05 * torch.randn(plain.logp.shape, generator=draw)
    return batch.replace(advantage=torch.randn(plain.logp.shape, generator=draw), old=old), plain


@EVERY
def test_rows_packed_together_give_the_loss_and_gradient_of_each_row_in_a_pass_of_its_own(name: str) -> None:
    policy = policy_of(CONFIGS[name], path="packed")
    batch, _ = to_learn(policy)
    parts = list(batch.split(1))
    assert [part.rows for part in parts] == [1] * batch.rows, "a row, its prompt and nothing else"
    single = torch.stack([GRPO().loss(policy(part), part).loss for part in parts]).sum()
    wanted = gradients(policy.model, single)
    packed = GRPO().loss(policy(batch), batch).loss
    assert float((packed.detach() - single.detach()).abs()) < 1e-6 * float(single.detach().abs())
    assert apart(gradients(policy.model, packed), wanted) < 1e-6


@EVERY
def test_the_packed_gradient_is_as_near_to_the_exact_one_as_a_plain_pass_is(name: str) -> None:
    policy = policy_of(CONFIGS[name], path="packed")
    batch, outputs = to_learn(policy)
    assert batch.weight is not None and batch.advantage is not None and batch.old is not None
    exactly = model_of(CONFIGS[name]).double()
    wide = batch.replace(advantage=batch.advantage.double(), old=batch.old.double(), weight=batch.weight.double())
    truth = GRPO().loss(Outputs(*alone(exactly, batch)), wide).loss
    wanted = gradients(exactly, truth)
    plain = apart(gradients(policy.model, GRPO().loss(outputs, batch).loss), wanted)
    packed = GRPO().loss(policy(batch), batch).loss
    assert float((packed.detach() - truth.detach()).abs()) < 1e-6 * float(truth.detach().abs())
    assert apart(gradients(policy.model, packed), wanted) < 1.5 * plain < 5e-6


@EVERY
def test_the_plain_path_says_the_same(name: str) -> None:
    policy = policy_of(CONFIGS[name], path="plain")
    batch = batch_of()
    truth, entropy = alone(policy.model, batch)
    assert batch.weight is not None
    wanted = gradients(policy.model, (batch.weight * truth).sum())
    outputs = policy(batch)
    torch.testing.assert_close(outputs.logp, truth, atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs.entropy, entropy, atol=1e-4, rtol=0)
    assert largest_gap(gradients(policy.model, (batch.weight * outputs.logp).sum()), wanted) < 1e-4


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_checkpointing_gives_the_same_gradients(name: str) -> None:
    kept, recomputed = policy_of(CONFIGS[name]), policy_of(CONFIGS[name], checkpointing=True)
    batch = batch_of()
    first, second = kept(batch), recomputed(batch)
    assert torch.equal(first.logp, second.logp)
    assert batch.weight is not None
    wanted = gradients(kept.model, (batch.weight * first.logp).sum())
    found = gradients(recomputed.model, (batch.weight * second.logp).sum())
    assert all(torch.equal(found[weight], wanted[weight]) for weight in wanted)
    assert "checkpointing in 3 layers" in recomputed.describe()


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize(("most", "again"), [(1.0, 0), (0.9, 1), (0.6, 2), (0.01, 3)])
def test_of_a_pass_that_is_too_long_as_many_layers_run_again_as_there_are_tokens_too_many(
    name: str, most: float, again: int
) -> None:
    kept, recomputed = policy_of(CONFIGS[name]), policy_of(CONFIGS[name])
    batch, ran = batch_of((50, 70), ((0, 40), (1, 40))), list[tuple[int, int]]()
    layers = [one for one in recomputed.model.modules() if isinstance(one, GradientCheckpointingLayer)]
    for place, layer in enumerate(layers):
        layer.forward = partial(_counted, layer.forward, place, ran)
    recomputed(batch)
    assert [place for place, _ in ran] == [0, 1, 2]
    recompute_beyond(recomputed.model, round(most * ran.pop()[1]))
    ran.clear()
    assert batch.weight is not None
    wanted = gradients(kept.model, (batch.weight * kept(batch).logp).sum())
    found = gradients(recomputed.model, (batch.weight * recomputed(batch).logp).sum())
    assert all(torch.equal(found[weight], wanted[weight]) for weight in wanted)
    assert sorted(place for place, _ in ran) == sorted([0, 1, 2, *range(again)])


@pytest.mark.parametrize(("most", "again"), [(50, []), (49, [0, 1])])
def test_a_padded_pass_counts_as_the_part_of_a_batch_that_it_is(most: int, again: list[int]) -> None:
    kept, recomputed = (policy_of(CONFIGS["llama"], path="plain") for _ in range(2))
    batch, ran = batch_of((40,), ((0, 5), (0, 5))), list[tuple[int, int]]()
    assert len(list(batch.split(50))) == 1 and batch.size == 50, "the prompt counts once, and 90 places are computed"
    layers = [one for one in recomputed.model.modules() if isinstance(one, GradientCheckpointingLayer)]
    for place, layer in enumerate(layers):
        layer.forward = partial(_counted, layer.forward, place, ran)
    recompute_beyond(recomputed.model, most)
    assert batch.weight is not None
    wanted = gradients(kept.model, (batch.weight * kept(batch).logp).sum())
    found = gradients(recomputed.model, (batch.weight * recomputed(batch).logp).sum())
    assert all(torch.equal(found[weight], wanted[weight]) for weight in wanted)
    assert ran[:3] == [(0, 90), (1, 90), (2, 90)] and sorted(place for place, _ in ran[3:]) == again


def _counted(forward: Any, place: int, ran: list[tuple[int, int]], hidden: torch.Tensor, *args: Any, **kw: Any) -> Any:
    ran.append((place, hidden.shape[:-1].numel()))
    return forward(hidden, *args, **kw)


@pytest.mark.parametrize("tokens", [1, 16, 30])
def test_the_parts_of_a_batch_add_up_to_its_loss_and_gradient(tokens: int) -> None:
    policy = policy_of(CONFIGS["llama"])
    batch = batch_of()

    def loss(part: Any) -> torch.Tensor:
        total: torch.Tensor = (part.weight * policy(part).logp).sum()
        return total

    whole = loss(batch)
    wanted = gradients(policy.model, whole)
    parts = list(batch.split(tokens))
    assert len(parts) > 1
    losses = [loss(part) for part in parts]
    total = torch.stack(losses).sum()
    torch.testing.assert_close(total, whole, atol=1e-6, rtol=1e-5)
    assert largest_gap(gradients(policy.model, total), wanted) < 1e-5


def test_rows_of_one_prompt_may_stand_anywhere_in_the_batch() -> None:
    policy = policy_of(CONFIGS["llama"])
    mixed = batch_of(rows=((2, 4), (0, 6), (2, 5), (1, 3), (0, 2)))
    torch.testing.assert_close(policy(mixed).logp, alone(policy.model, mixed)[0], atol=1e-4, rtol=0)


def test_a_completion_of_no_tokens_takes_no_place() -> None:
    policy = policy_of(CONFIGS["llama"])
    batch = batch_of(rows=((0, 0), (0, 3), (1, 0)))
    torch.testing.assert_close(policy(batch).logp, alone(policy.model, batch)[0], atol=1e-4, rtol=0)


def test_a_completion_does_not_see_its_neighbours() -> None:
    policy = policy_of(CONFIGS["llama"])
    batch = batch_of()
    before = policy(batch).logp.detach()
    tokens = batch.tokens.clone()
    changed = batch.row == 2
    tokens[changed] = (tokens[changed] + 17) % 259
    after = policy(batch.replace(tokens=tokens)).logp.detach()
    assert torch.equal(after[batch.row != 2], before[batch.row != 2])
    assert bool((after[changed] != before[changed]).all())


def test_long_sequences_take_torchs_attention_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("llama", "gemma2"):
        policy, batch = policy_of(CONFIGS[name]), batch_of()
        assert batch.weight is not None
        short = policy(batch).logp
        wanted = gradients(policy.model, (batch.weight * short).sum())
        with monkeypatch.context() as patch:
            patch.setattr(attention, "LARGE", 0)
            patch.setattr(attention, "shared_attention", None)
            long = policy(batch).logp
            found = gradients(policy.model, (batch.weight * long).sum())
        torch.testing.assert_close(long, short, atol=1e-5, rtol=0)
        assert largest_gap(found, wanted) < 1e-4


def test_the_model_still_generates_as_before() -> None:
    policy = policy_of(CONFIGS["gemma2"])
    prompt = torch.tensor([[5, 9, 7]])
    with torch.no_grad():
        whole = policy.model(input_ids=torch.tensor([[5, 9, 7, 11]]), use_cache=False).logits[0, -1]
        first = policy.model(input_ids=prompt, use_cache=True)
        then = policy.model(input_ids=torch.tensor([[11]]), past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(then.logits[0, -1], whole, atol=1e-4, rtol=1e-4)
