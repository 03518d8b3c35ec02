"""The local sampler against the model itself: any architecture, any batch, fresh weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from klimb.errors import GenerationError
from klimb.generation.base import Request, Sampling
from klimb.generation.local import Local
from tests.generation.helpers import FAMILIES, FAST, model_of, policy_of, truth

REQUESTS = [Request((5, 9, 200), (1, 2, 3, 4)), Request((80, 81, 82, 83, 84, 85), (5,)), Request((33,), (6, 7))]


def sampled(model: Any, requests: list[Request], sampling: Sampling, **settings: Any) -> list[Any]:
    with Local(**settings).open(policy_of(model)) as sampler:
        return sampler.sample(requests, sampling)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_and_entropies_are_those_of_the_model_itself(family: str, temperature: float) -> None:
    model = model_of(family)
    done = sampled(model, REQUESTS, Sampling(max_tokens=20, temperature=temperature))
    for request, row in zip(REQUESTS, done, strict=True):
        for completion in row:
            logps = truth(model, request.tokens, completion.tokens, temperature)
            picked = logps.gather(1, torch.tensor(completion.tokens)[:, None])[:, 0]
            assert torch.tensor(completion.logps) == pytest.approx(picked, abs=1e-4)
            assert torch.tensor(completion.entropies) == pytest.approx(-(logps.exp() * logps).sum(-1), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fast_engine_is_taken_where_it_fits_and_the_choice_is_named(family: str) -> None:
    with Local().open(policy_of(model_of(family))) as sampler:
        assert sampler.describe().startswith("fast (" if family in FAST else "plain (")
    if family not in FAST:
        with (
            pytest.raises(GenerationError, match="engine=fast"),
            Local(engine="fast").open(policy_of(model_of(family))),
        ):
            pass


def test_an_architecture_that_only_looks_like_llama_is_found_out() -> None:
    model = model_of("llama")
    inner = model.model.layers[0].mlp.forward
    model.model.layers[0].mlp.forward = lambda x: inner(x) * 1.5
    with Local().open(policy_of(model)) as sampler:
        assert "distributions differ by" in sampler.describe()


@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_a_completion_is_the_same_whatever_else_is_sampled_and_whatever_the_row_limit(engine: str) -> None:
    model, sampling = model_of("llama"), Sampling(max_tokens=20)
    many = [Request(tuple(range(3 + i, 4 + 2 * i)), (100 + i, 200 + i)) for i in range(7)]
    alone = [sampled(model, [request], sampling, engine=engine)[0] for request in many]
    for rows in (1, 5, 64):
        together = sampled(model, many, sampling, engine=engine, rows=rows)
        backwards = sampled(model, many[::-1], sampling, engine=engine, rows=rows)[::-1]
        for done in (together, backwards):
            assert [[c.tokens for c in row] for row in done] == [[c.tokens for c in row] for row in alone]
            for one, other in zip(sum(done, ()), sum(alone, ()), strict=True):
                assert one.logps == pytest.approx(other.logps, abs=1e-4)


def test_different_seeds_give_different_completions() -> None:
    ((*done,),) = sampled(model_of("llama"), [Request((5, 9), tuple(range(20)))], Sampling(max_tokens=12))
    assert len({completion.tokens for completion in done}) == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_after_a_refresh_completions_come_from_the_new_weights(engine: str, dtype: torch.dtype) -> None:
    model, sampling = model_of("llama", dtype), Sampling(max_tokens=16)
    with Local(engine=engine).open(policy_of(model)) as sampler:
        before = sampler.sample(REQUESTS, sampling)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
        sampler.refresh()
        after = sampler.sample(REQUESTS, sampling)
    assert after != before
    assert after == sampled(model, REQUESTS, sampling, engine=engine)


def test_a_sequence_beyond_the_sliding_window_is_still_the_models_own() -> None:
    model = model_of("gemma3", sliding_window=8)
    done = sampled(model, REQUESTS, Sampling(max_tokens=20))
    for request, row in zip(REQUESTS, done, strict=True):
        for completion in row:
            logps = truth(model, request.tokens, completion.tokens)
            picked = logps.gather(1, torch.tensor(completion.tokens)[:, None])[:, 0]
            assert torch.tensor(completion.logps) == pytest.approx(picked, abs=1e-4)


def test_bfloat16_agrees_with_the_model_within_its_rounding() -> None:
    model = model_of("llama", torch.bfloat16)
    done = sampled(model, REQUESTS, Sampling(max_tokens=20), engine="fast")
    gaps = []
    for request, row in zip(REQUESTS, done, strict=True):
        for c in row:
            picked = truth(model, request.tokens, c.tokens).gather(1, torch.tensor(c.tokens)[:, None])[:, 0]
            gaps.append((picked - torch.tensor(c.logps)).abs())
    assert float(torch.cat(gaps).mean()) < 0.05


def test_sampling_leaves_the_model_in_training_mode_and_its_weights_alone() -> None:
    model = model_of("llama").train()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    sampled(model, REQUESTS, Sampling(max_tokens=4))
    assert model.training
    assert all(
        torch.equal(before[name], weight) and not weight.is_inference() for name, weight in model.named_parameters()
    )


def test_broken_weights_are_an_error_and_not_a_completion() -> None:
    model = model_of("llama")
    with Local(engine="fast").open(policy_of(model)) as sampler:
        with torch.no_grad():
            model.model.norm.weight.fill_(float("nan"))
        sampler.refresh()
        with pytest.raises(GenerationError, match="NaN or infinity"):
            sampler.sample(REQUESTS, Sampling(max_tokens=4))
