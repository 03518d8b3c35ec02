"""Tokens are drawn from the distribution that the settings describe, and from no other."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare

from klimb.errors import GenerationError
from klimb.generation.base import Request, Sampling
from klimb.generation.engine.draw import BLOCK, draw
from klimb.generation.local import Local
from klimb.seeds import uniforms
from tests.generation.helpers import model_of, policy_of, truth

DRAWS = 100_000
SAMPLED = 40_000
PROMPT = (5, 9, 20, 31)


def expected(logits: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """The distribution by its definition: temperature, then the k likeliest, then the smallest set that reaches p."""
    shares = np.exp(logits / sampling.temperature - np.max(logits / sampling.temperature))
    order = np.argsort(-shares, kind="stable")
    if sampling.top_k:
        shares[order[sampling.top_k :]] = 0.0
    shares /= shares.sum()
    before = np.cumsum(shares[order]) - shares[order]
    shares[order[before >= sampling.top_p]] = 0.0
    kept: NDArray[np.float64] = shares / shares.sum()
    return kept


def surprise(counts: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """The p-value of counts under shares; rare tokens are counted together."""
    wanted = shares * counts.sum()
    if counts[wanted == 0.0].any():
        return 0.0
    common = wanted >= 10.0
    observed = np.append(counts[common], counts[~common].sum())
    hoped = np.append(wanted[common], wanted[~common].sum())
    keep = hoped > 0.0
    return float(chisquare(observed[keep], hoped[keep] * observed.sum() / hoped.sum()).pvalue)


@pytest.fixture(scope="module")
def counts_of() -> object:
    """Counts of the first token over many draws, once for each setting; for the last of them from the whole sampler."""
    model = model_of("llama", vocab_size=48, eos_token_id=None)
    logits = truth(model, PROMPT, (1,))[0].double().numpy()
    policy = policy_of(model)
    found: dict[Sampling, NDArray[np.int64]] = {}

    def counts(sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if sampling not in found:
            tokens = sampled(sampling) if sampling == CASES["all of them"] else drawn(sampling)
            found[sampling] = np.bincount(tokens, minlength=48)
        return found[sampling], logits

    def sampled(sampling: Sampling) -> NDArray[np.int64]:
        with Local(rows=20_000).open(policy) as sampler:
            (done,) = sampler.sample([Request(PROMPT, tuple(range(SAMPLED)))], sampling)
        return np.fromiter(chain.from_iterable(c.tokens for c in done), np.int64)

    def drawn(sampling: Sampling) -> NDArray[np.int64]:
        rows = torch.from_numpy(logits).float().expand(DRAWS, -1)
        tokens: NDArray[np.int64] = draw(rows, torch.from_numpy(uniforms(5, DRAWS)), sampling).tokens.numpy()
        return tokens

    return counts


CASES = {
    "temperature one": Sampling(max_tokens=1),
    "temperature 0.7": Sampling(max_tokens=1, temperature=0.7),
    "top-k": Sampling(max_tokens=1, top_k=7),
    "top-p": Sampling(max_tokens=1, top_p=0.8),
    "all of them": Sampling(max_tokens=1, temperature=1.3, top_k=20, top_p=0.9),
}


@pytest.mark.parametrize("name", CASES)
def test_many_draws_have_the_right_shares(name: str, counts_of: object) -> None:
    counts, logits = counts_of(CASES[name])  # type: ignore[operator]
    assert surprise(counts, expected(logits, CASES[name])) > 1e-4


@pytest.mark.parametrize(
    ("drawn", "claimed"),
    [
        ("temperature one", Sampling(temperature=1.05)),
        ("top-k", Sampling(top_k=8)),
        ("top-k", Sampling(top_k=6)),
        ("top-p", Sampling(top_p=0.85)),
        ("all of them", Sampling(temperature=1.3, top_k=20, top_p=0.95)),
    ],
)
def test_the_same_test_finds_draws_from_a_slightly_different_distribution(
    drawn: str, claimed: Sampling, counts_of: object
) -> None:
    counts, logits = counts_of(CASES[drawn])  # type: ignore[operator]
    assert surprise(counts, expected(logits, claimed)) < 1e-6


@pytest.mark.parametrize("width", [3, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_the_two_level_inverse_is_the_plain_inverse(width: int) -> None:
    logits = torch.randn(64, width, generator=torch.Generator().manual_seed(width)) * 3
    chances = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shares = logits.double().softmax(-1)
    plain = torch.searchsorted(shares.cumsum(-1), chances[:, None], right=True)[:, 0].clamp(max=width - 1)
    drawn = draw(logits, chances, Sampling())
    assert torch.equal(drawn.tokens, plain)
    assert torch.allclose(drawn.logps.double(), shares.log().gather(1, plain[:, None])[:, 0], atol=1e-5)
    assert torch.allclose(drawn.entropies.double(), -(shares * shares.log()).sum(-1), atol=1e-5)


def test_the_log_prob_is_of_what_is_left_and_the_entropy_of_the_whole() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    drawn = draw(logits, torch.tensor([0.7], dtype=torch.float64), Sampling(top_k=2))
    assert drawn.tokens.tolist() == [1]
    assert drawn.logps.exp().tolist() == pytest.approx([1 / 3])
    assert drawn.entropies.tolist() == pytest.approx([1.2080], abs=1e-3)


@pytest.mark.parametrize("chance", [0.0, 1.0 - 2.0**-53])
def test_impossible_tokens_are_never_drawn_not_even_at_the_ends(chance: float) -> None:
    logits = torch.full((5, 700), float("-inf"))
    logits[:, 300:400] = 0.0
    logits[:, 399] = -5.0
    drawn = draw(logits, torch.full((5,), chance, dtype=torch.float64), Sampling())
    assert drawn.tokens.tolist() == [300 if chance == 0.0 else 399] * 5
    assert torch.isfinite(drawn.entropies).all()


def test_of_equally_likely_tokens_exactly_k_are_kept_the_first_ones() -> None:
    logits = torch.tensor([[1.0, 2.0, 1.0, 1.0, 1.0]] * 1000)
    chances = torch.linspace(0, 0.999, 1000, dtype=torch.float64)
    assert set(draw(logits, chances, Sampling(top_k=3)).tokens.tolist()) == {0, 1, 2}


def test_greedy_takes_the_likeliest_with_certainty() -> None:
    drawn = draw(
        torch.tensor([[0.0, 3.0, 3.0, 1.0]]), torch.tensor([0.9], dtype=torch.float64), Sampling(temperature=0)
    )
    assert (drawn.tokens.tolist(), drawn.logps.tolist(), drawn.entropies.tolist()) == ([1], [0.0], [0.0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_refused(bad: float, temperature: float) -> None:
    logits = torch.zeros(3, 300)
    logits[1, 7] = bad
    with pytest.raises(GenerationError, match="NaN or infinity"):
        draw(logits, torch.zeros(3, dtype=torch.float64), Sampling(temperature=temperature))


def test_nucleus_of_a_flat_distribution_is_as_wide_as_it_must_be() -> None:
    logits = torch.zeros(2, 5000)
    chances = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    drawn = draw(logits, chances, Sampling(top_p=0.9))
    assert drawn.tokens.tolist() == [0, 4499]
    assert drawn.logps.exp().tolist() == pytest.approx([1 / 4500] * 2, rel=1e-4)
