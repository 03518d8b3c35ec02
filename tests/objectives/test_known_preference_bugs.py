"""Faults on record of other preference trainers (docs/preferences.md lists them), each tried here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from klimb.batch import Batch
from klimb.objectives import DPO, IPO
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.policy.tiny import tiny_tokenizer
from klimb.recipe import Recipe
from klimb.rendering import encoding
from klimb.sources.online_pairs import paired
from klimb.sources.pairing import BestWorst
from klimb.sources.pairs import Pairs
from klimb.training.remembered import Remembered
from klimb.types import Completion, Finish, Group, Label, Prompt, Reply, Rollout, Transform
from tests.objectives.test_preferences import MIXED, update
from tests.policy.zoo import CONFIGS, batch_of, model_of
from tests.sources.test_given import supplies


def pair(policy: Policy, chosen: str = "yes", rejected: str = "never") -> Batch:
    """One pair as it comes from the data, with the weights of DPO."""
    made = supplies((Reply(chosen, True), Reply(rejected, False)), count=1)
    (group,) = Pairs(prompts=1).open(replace(made, encode=encoding(policy, scores=False))).groups(1)
    batch = Batch.of([group])
    return batch.replace(weight=DPO().weighting(batch))


def test_where_padding_is_eos_the_eos_of_an_answer_learns_and_nothing_after_it_does() -> None:
    policy = load(PolicySettings(name="tiny"))
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    batch = pair(policy)
    ends = batch.lengths.cumsum(0) - 1
    assert batch.tokens[ends].tolist() == [2, 2] and int((batch.tokens == 2).sum()) == 2
    assert batch.weight is not None and bool((batch.weight > 0).all()) and bool(batch.learn.all())


def test_truncation_never_leaves_an_answer_without_tokens_and_every_loss_is_finite() -> None:
    long = (Reply("yes" * 50, True), Reply("never" * 50, False))
    source = Pairs(prompts=2, prompt_tokens=1, answer_tokens=1)
    batch = Batch.of(source.open(supplies(long)).groups(1))
    assert batch.lengths.tolist() == [1, 1, 1, 1]
    for objective in (DPO(), IPO(), IPO(lengths="mean")):
        ready = batch.replace(weight=objective.weighting(batch), ref=torch.full((4,), -2.0))
        loss, _, gradient = update(objective, ready, torch.tensor([-1.0, -3.0, -1.5, -2.0]).requires_grad_())
        assert torch.isfinite(torch.tensor(loss)) and bool((gradient != 0).all())


def test_ties_the_lower_index_is_not_preferred_and_a_pair_of_equal_log_ratios_is_half_right() -> None:
    done = Completion((1,), (-1.0,), "", Finish.EOS)
    tied = Group(Prompt("p", tokens=(1,)), tuple(Rollout(done, k, k, reward=1.0) for k in range(3)))
    assert paired(tied, BestWorst()).pairs == ()
    assert set(Batch.of([paired(tied, BestWorst())]).label.tolist()) == {Label.PASSED}
    ready = MIXED.replace(ref=MIXED.old, weight=DPO().weighting(MIXED))
    assert MIXED.old is not None
    _, metrics, _ = update(DPO(), ready, MIXED.old.clone().requires_grad_())
    assert metrics["preference/accuracy"] == pytest.approx(0.5)


def test_none_reward_an_answer_without_a_score_neither_wins_nor_loses_a_pair() -> None:
    done = Completion((1,), (-1.0,), "", Finish.EOS)
    for rewards, wanted in (((None, -1.0, -2.0), (1, 2)), ((None, 1.0, 2.0), (2, 1))):
        rows = tuple(Rollout(done, k, k, reward=reward) for k, reward in enumerate(rewards))
        found = paired(Group(Prompt("p", tokens=(1,)), rows), BestWorst())
        assert found.pairs == (wanted,)
        assert [(row.k, row.label) for row in found.learned] == [(wanted[0], 1), (wanted[1], -1)]


def test_temperature_mismatch_log_probs_are_at_the_temperature_that_drew_or_the_recipe_is_refused() -> None:
    done = Completion((1,), (-1.0,), "", Finish.EOS)
    drawn = Group(Prompt("p", tokens=(1,)), (Rollout(done, 0, 0, reward=1.0),), Transform(temperature=0.7))
    assert Batch.of([drawn]).temperature == 0.7
    recipe = {
        "model": {"name": "tiny"}, "data": {"type": "echo-pairs"}, "sampling": {"temperature": 0.7},
        "objective": {"type": "hypo"}, "source": {"type": "mixture"},
    }  # fmt: skip
    (fault,) = Recipe.model_validate(recipe).faults()
    assert "another temperature than 1" in fault.line()


def test_dropout_in_the_reference_and_in_the_policy_is_off_though_the_model_was_training() -> None:
    config = CONFIGS["gpt2"]
    wet = model_of(type(config)(**{**config.to_dict(), "resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}))
    dry = model_of(type(config)(**{**config.to_dict(), "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}))
    batch, found = batch_of(), []
    for model in (wet, wet, dry):
        policy = Policy.of(model.train(), tiny_tokenizer(128), PolicySettings(precision="float32"))
        found.append(policy(batch).logp.detach())
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    wet.train()
    raw = wet(input_ids=batch.prompts[0][None]).logits
    assert not torch.equal(raw, wet(input_ids=batch.prompts[0][None]).logits), "it has dropout where it trains"


def test_a_remembered_reference_stays_where_it_began_while_the_policy_moves() -> None:
    policy, reference = load(PolicySettings(name="tiny")), Remembered(load(PolicySettings(name="tiny")))
    batch = pair(policy)
    first = reference(batch).logp
    assert torch.allclose(first, policy(batch).logp, atol=1e-6)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(1.2)
    assert torch.equal(reference(batch).logp, first)
    logp = policy(batch).logp.detach().requires_grad_()
    loss, metrics, _ = update(DPO(beta=1.0), batch.replace(ref=first), logp)
    assert metrics["preference/gap"] != 0.0 and abs(loss - 0.6931) > 1e-3, "not stuck at log 2"


def test_a_likelihood_term_beside_the_preference_changes_none_of_its_metrics() -> None:
    ready = MIXED.replace(weight=DPO().weighting(MIXED))
    assert MIXED.old is not None
    logp = (MIXED.old * 0.9).requires_grad_()
    plain, more = (update(objective, ready, logp) for objective in (DPO(), DPO(nll=1.0)))
    assert plain[0] != more[0] and plain[1] == more[1]
