"""Faults on record in other implementations of token selection, each with a test that it is not one of ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError

from klimb import functional as F
from klimb.batch import Batch, Outputs
from klimb.config import resolve
from klimb.objectives.dapo import DAPO
from klimb.objectives.grpo import GRPO
from klimb.objectives.penalty import KL
from klimb.policy.heads import HeadRule, token_logps
from klimb.recipe import Recipe
from klimb.selection import Bottom, Every, Top
from klimb.selection.base import EntropyOf
from klimb.training.selecting import ranked
from klimb.training.weighing import weigh
from tests.selection.kit import selector_of, some
from tests.training.toy import Bigram, groups

ROOT = Path(__file__).resolve().parents[2]


def settings(**changes: Any) -> dict[str, Any]:
    """The tiny recipe with some sections changed."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text("utf-8"))
    return found | changes


def test_the_option_is_read_from_where_it_is_declared() -> None:
    """Authors' repository, issue 14: declared on one record, read from another, and silently off."""
    assert resolve(Recipe, settings(selector={"type": "top", "share": 0.3})).selector == Top(share=0.3)
    text = (ROOT / "src" / "klimb" / "crew.py").read_text("utf-8")
    assert len(re.findall(r"\brecipe\.selector\b", text)) == 1


def test_a_mask_of_integers_is_never_taken_for_indices(tmp_path: Path) -> None:
    """Authors' repository: an int64 mask gathered elements 0 and 1 instead of selecting."""
    file = tmp_path / "mine.py"
    file.write_text("def keep(batch):\n    return batch.learn.long()\n")
    with pytest.raises(Exception, match=r"torch\.int64"):
        selector_of(type="custom", path=f"{file}:keep").keep(some())
    whole = some(1)
    for name, value in {"learn": whole.learn, "keep": Top().keep(whole)}.items():
        assert value.dtype == torch.bool, name


def test_what_is_not_a_completion_token_is_not_in_the_batch_at_all() -> None:
    """TRL 3563 and 3709: the quantile was taken over padding too, whose entropy is not zero."""
    whole = some(2)
    assert whole.tokens.numel() == int(whole.lengths.sum())
    prompts = tuple(torch.zeros(50, dtype=torch.int64) for _ in whole.prompts)
    assert torch.equal(Top().keep(whole.replace(prompts=prompts)), Top().keep(whole))


def test_filtered_rows_and_tool_tokens_leave_before_the_ranking_not_after() -> None:
    """ms-swift: the threshold was computed before the overlong filter."""
    whole = some(3)
    assert whole.entropy is not None
    filtered = whole.replace(learn=whole.learn & (whole.row >= 4))
    keep = Top(share=0.5).keep(filtered)
    alone = whole.take(torch.arange(4, whole.rows))
    assert torch.equal(keep[whole.row >= 4], Top(share=0.5).keep(alone))
    assert int(keep.sum()) == F.selection.size(0.5, int(filtered.learn.sum()))


def test_the_share_is_what_is_kept_and_another_name_is_an_error() -> None:
    """TRL 3727 turned a share that was dropped into one that is kept, under a new name."""
    whole = some(4)
    assert int(Top(share=0.2).keep(whole).sum()) < int(Top(share=0.8).keep(whole).sum())
    for name in ("quantile", "top_entropy_quantile", "token_entropy_percentile_threshold"):
        with pytest.raises(ValidationError, match=name):
            selector_of(type="top", **{name: 0.2})


def test_a_threshold_of_zero_does_not_keep_every_token_that_has_none() -> None:
    """Half of all tokens are near 0 nats: H >= quantile then keeps everything."""
    whole = some(5)
    flat = whole.replace(entropy=torch.zeros(whole.tokens.numel()))
    n = int(whole.learn.sum())
    for selector in (Top(share=0.6), Bottom(share=0.6)):
        assert int(selector.keep(flat).sum()) == F.selection.size(0.6, n) < n


@pytest.mark.slow
def test_more_tokens_than_torch_quantile_takes_are_ranked() -> None:
    """torch.quantile refuses more than 2^24 entries, and interpolates."""
    n = (1 << 24) + 5
    values = torch.arange(n, dtype=torch.float32) % 1000
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(values, 0.8)
    nothing = torch.zeros(n, dtype=torch.int64)
    keep = F.selection.largest(values, torch.ones(n, dtype=torch.bool), nothing, 1, 0.2, torch.arange(n))
    assert int(keep.sum()) == F.selection.size(0.2, n)


def test_an_empty_selection_is_no_crash() -> None:
    """rlhf-book: the quantile of nothing raises."""
    whole = some(6)
    nothing = whole.replace(learn=torch.zeros_like(whole.learn))
    chosen = weigh(DAPO().advantage(nothing), DAPO(), Top())
    assert chosen.weight is not None
    assert not chosen.learn.any() and (chosen.weight == 0).all()


def test_small_micro_batches_do_not_turn_the_population_into_the_row() -> None:
    """With one row a micro-batch, easy answers would give as many tokens as hard ones."""
    whole = some(7)
    assert whole.entropy is not None
    hard = whole.replace(entropy=whole.entropy + 9.0 * (whole.row == 0))
    for tokens in (1, 30, 1 << 20):
        chosen = weigh(DAPO().advantage(hard), DAPO(), Top(share=0.1), tokens)
        assert set(chosen.row[chosen.learn].tolist()) <= {0} or int(whole.learn[whole.row == 0].sum()) < int(
            chosen.learn.sum()
        )
        assert torch.equal(chosen.learn, Top(share=0.1).keep(hard))


def test_a_micro_batch_of_short_answers_weighs_no_more_a_token() -> None:
    """verl weighs micro-batches by their rows, so a kept token of short answers counts more."""
    chosen = weigh(DAPO().advantage(some(8)), DAPO(), Top(share=0.5))
    assert chosen.weight is not None
    weights = torch.cat([part.weight[part.learn] for part in chosen.split(12) if part.weight is not None])
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / int(chosen.learn.sum())))


def test_entropies_carry_no_gradient_and_the_choice_is_none() -> None:
    """A full softmax in the graph costs memory and steers nothing, for the mask is not differentiable."""
    logp, entropy = head(torch.float32)
    assert logp.requires_grad and not entropy.requires_grad
    assert not Top().keep(some()).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_entropies_are_float32_and_never_negative(dtype: torch.dtype) -> None:
    """In bfloat16 an entropy near zero may come out below zero, which breaks sentinels."""
    _, entropy = head(dtype, scale=40.0)
    assert entropy.dtype == torch.float32
    assert float(entropy.min()) >= 0.0
    assert (entropy < 1e-3).any()


def head(dtype: torch.dtype, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = (torch.randn(64, 16, generator=draw) * scale).to(dtype).requires_grad_()
    weight = torch.randn(700, 16, generator=draw).to(dtype).requires_grad_()
    return token_logps(hidden, weight, None, torch.randint(700, (64,), generator=draw), HeadRule(), 1.0)


def test_the_temperature_that_is_ranked_is_the_one_of_sampling_unless_said() -> None:
    """Entropy at a temperature other than 1, or under top-p: which distribution is meant must be stated."""
    warm = Batch.of(groups(4)).replace(temperature=0.7)
    recorded = warm.replace(entropy=torch.rand(len(warm.tokens), generator=torch.Generator().manual_seed(1)))
    assert ranked(recorded, Top(), Bigram(), 999) is recorded, "what the sampler recorded, as it is"
    for temperature in (None, 3.0):
        selector = Top(entropy=EntropyOf(of="current", temperature=temperature))
        found = ranked(recorded, selector, Bigram(), 999)
        wanted = Bigram()(warm.replace(temperature=temperature or 0.7)).entropy
        assert found.entropy is not None and torch.equal(found.entropy, wanted)
        assert found.temperature == 0.7, "what is learned from has the temperature that it was drawn at"
        keep = selector.keep(found)
        assert wanted[keep].min() >= wanted[found.learn & ~keep].max()
        assert not torch.equal(keep, selector.keep(recorded))
    recipe = settings(selector={"type": "top", "entropy": {"temperature": 2.0}})
    with pytest.raises(Exception, match=r"entropy.of=current"):
        resolve(Recipe, recipe)


def test_a_generator_without_entropies_is_refused_before_any_work() -> None:
    """A selection by what is not there must not quietly be no selection."""
    changes = {"generator": {"type": "http", "url": "http://localhost:1"}, "selector": {"type": "top"}}
    correction = {"training": {"correction": {"type": "truncate"}}}
    with pytest.raises(Exception, match=r"try: selector.entropy.of=current"):
        resolve(Recipe, settings(**changes, **correction))


def test_every_is_no_selection() -> None:
    whole: Batch = DAPO().advantage(some(9))
    chosen = weigh(whole, DAPO(), Every())
    assert torch.equal(chosen.learn, whole.learn)
    assert chosen.whole is None


def refers(where: Any, seed: int) -> tuple[GRPO, Batch, Outputs]:
    """GRPO with a KL to a reference, a batch, and what the policy of now says of it."""
    whole = some(seed)
    draw = torch.Generator().manual_seed(seed)
    now, old, ref = (-torch.rand(whole.tokens.numel(), generator=draw) for _ in range(3))
    objective = GRPO(beta=0.3, kl=KL(where=where))
    whole = objective.advantage(whole.replace(old=old, ref=ref))
    return objective, whole, Outputs(now, torch.zeros_like(now))


def test_a_kl_in_the_reward_runs_beside_a_selector_and_charges_dropped_tokens_too() -> None:
    """Authors' repository, issue 20: use_kl_in_reward=True crashed, for the response mask was not there."""
    objective, whole, now = refers("reward", 10)
    chosen = weigh(whole, objective, Top(share=0.3))
    assert bool(torch.isfinite(objective.loss(now, chosen).loss))
    assert whole.old is not None and whole.ref is not None
    dropped = whole.learn & ~chosen.learn
    other = objective.advantage(whole.replace(ref=torch.where(dropped, whole.ref - 1.0, whole.ref)))
    assert not torch.equal(objective.rewarded(other), objective.rewarded(whole))


def test_the_kl_and_the_policy_part_are_each_averaged_over_the_tokens_that_they_act_on() -> None:
    """TRL 3709: the mask took terms away, and both parts were divided by all tokens."""
    objective, whole, _ = refers("loss", 11)
    chosen = weigh(whole, objective, Top(share=0.3))
    assert chosen.weight is not None and chosen.kl_weight is not None
    for weight, mask in ((chosen.weight, chosen.learn), (chosen.kl_weight, whole.learn)):
        torch.testing.assert_close(weight.sum(), torch.tensor(1.0))
        assert torch.equal(weight != 0, mask)


def test_a_masked_kl_and_the_policy_part_are_averages_over_the_same_kept_tokens() -> None:
    objective, whole, now = refers("loss", 11)
    chosen = weigh(whole, objective, Top(share=0.3, kl="kept"))
    assert chosen.weight is not None and chosen.ref is not None
    kept, gap = chosen.learn, now.logp - chosen.ref
    torch.testing.assert_close(chosen.weight[kept].sum(), torch.tensor(1.0))
    told = torch.as_tensor(objective.loss(now, chosen).metrics["policy/kl_ref"])
    torch.testing.assert_close(told, (chosen.weight * F.divergence.k3(gap))[kept].sum())
    plain = objective.model_copy(update={"beta": 0.0}).loss(now, chosen).loss
    torch.testing.assert_close(objective.loss(now, chosen).loss - plain, 0.3 * told)
