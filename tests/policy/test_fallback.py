"""The plain path is taken, and named, where the packed one does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from klimb.errors import ModelError
from klimb.policy import attention, choosing, kernel
from klimb.policy.base import PolicySettings
from klimb.policy.paths import Packed
from klimb.policy.policy import Policy
from klimb.policy.tiny import tiny_tokenizer
from tests.policy.zoo import CONFIGS, RECURRENT, WINDOWED, alone, batch_of, gradients, largest_gap, model_of, policy_of


def test_packed_is_chosen_for_every_ordinary_architecture() -> None:
    assert [name for name, config in CONFIGS.items() if not isinstance(policy_of(config).path, Packed)] == []


def test_a_recurrent_model_takes_the_plain_path_and_says_why() -> None:
    policy = policy_of(RECURRENT)
    assert "plain: one padded forward pass" in policy.describe()
    assert "packed does not fit" in policy.describe()
    batch = batch_of()
    torch.testing.assert_close(policy(batch).logp, alone(policy.model, batch)[0], atol=1e-4, rtol=0)


def test_asking_for_packed_where_it_does_not_fit_is_an_error_with_the_reason() -> None:
    with pytest.raises(ModelError, match=r"packed wants a model that it fits.*try: model.path=auto"):
        policy_of(RECURRENT, path="packed")


def test_a_sequence_longer_than_the_sliding_window_takes_the_plain_path() -> None:
    policy = policy_of(WINDOWED)
    long, short = batch_of(prompts=(9,), rows=((0, 14), (0, 9))), batch_of(prompts=(5,), rows=((0, 4), (0, 5)))
    for batch in (long, short):
        truth, entropy = alone(policy.model, batch)
        outputs = policy(batch)
        torch.testing.assert_close(outputs.logp, truth, atol=1e-4, rtol=0)
        torch.testing.assert_close(outputs.entropy, entropy, atol=1e-4, rtol=0)
        assert batch.weight is not None
        wanted = gradients(policy.model, (batch.weight * truth).sum())
        found = gradients(policy.model, (batch.weight * policy(batch).logp).sum())
        assert largest_gap(found, wanted) < 1e-4
    assert "sequences of more than 16 tokens" in policy.describe()


def test_an_attention_that_shows_completions_to_each_other_is_caught_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    real = kernel.shared_attention

    def leaking(query, key, value, blocks, scale, softcap):  # type: ignore[no-untyped-def]
        return real(query, key.roll(1, 0), value, blocks, scale, softcap)

    monkeypatch.setattr(attention, "shared_attention", leaking)
    policy = policy_of(CONFIGS["llama"])
    assert "packed does not fit: log-probs differ by" in policy.describe()
    monkeypatch.undo()
    batch = batch_of()
    torch.testing.assert_close(policy(batch).logp, alone(policy.model, batch)[0], atol=1e-4, rtol=0)


def test_an_output_layer_with_a_rule_of_its_own_is_left_to_the_model() -> None:
    class Odd(torch.nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden).sin() * 3.0

    model = model_of(CONFIGS["qwen2"])
    model.lm_head.__class__ = Odd
    policy = Policy.of(model, tiny_tokenizer(128), PolicySettings(precision="float32"))
    assert "the model's own logits are used" in policy.describe()
    batch = batch_of(temperature=0.8)
    torch.testing.assert_close(policy(batch).logp, alone(policy.model, batch)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", [CONFIGS["llama"], CONFIGS["gemma2"], RECURRENT], ids=["llama", "gemma2", "plain"])
def test_a_model_built_as_another_is_computed_as_that_one_and_not_checked_again(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, batch, settings = policy_of(config), batch_of(), PolicySettings(precision="float32")
    wanted = policy_of(config)(batch)
    checks: list[object] = []
    check = choosing._one_by_one
    monkeypatch.setattr(choosing, "_one_by_one", lambda *of: checks.append(of) or check(*of))
    twin = Policy.of(model_of(config), tiny_tokenizer(128), settings, like=first)
    assert not checks and (twin.path.name, type(twin.path.rule)) == (first.path.name, type(first.path.rule))
    assert twin.path.model is twin.model is not first.model
    assert torch.equal(twin(batch).logp, wanted.logp) and torch.equal(twin(batch).entropy, wanted.entropy)
    other = Policy.of(model_of(CONFIGS["gpt2"]), tiny_tokenizer(128), settings, like=first)
    assert len(checks) == 1 and isinstance(other.path, Packed), "another architecture is looked at"
