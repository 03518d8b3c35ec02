"""What every generator promises, tried on each of them with the same model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from klimb.errors import GenerationError
from klimb.generation.base import Request, Sampling
from klimb.generation.http import Http
from klimb.generation.local import Local
from klimb.generation.replay import Replay
from klimb.rollouts import write
from klimb.types import Completion, Finish, Group, Prompt, Rollout
from tests.generation.helpers import CONTEXT, EOS, model_of, policy_of, served, server_of

REQUESTS = (
    Request((5, 9, 200, 31), (11, 12, 13)),
    Request((7, 7), (21,)),
    Request((5, 9, 200, 31), (14, 11)),
    Request((80, 81, 82, 83, 84, 85, 86), (31, 32, 33, 34)),
)
SAMPLINGS = {
    "plain": Sampling(max_tokens=24),
    "stopped": Sampling(max_tokens=24, stop=("a", "qq", "7")),
    "greedy": Sampling(temperature=0.0, max_tokens=8),
    "cut": Sampling(temperature=0.8, top_p=0.9, top_k=40, max_tokens=12),
}
KINDS = ("fast", "plain", "http", "replay")


@pytest.fixture(scope="module")
def policy() -> Any:
    return policy_of(model_of("llama"))


@contextmanager
def opened(kind: str, policy: Any, folder: Path, sampling: Sampling) -> Iterator[Any]:
    """A generator of some kind, ready to answer REQUESTS."""
    if kind in ("fast", "plain"):
        with Local(engine=kind).open(policy) as sampler:
            yield sampler
    elif kind == "http":
        with served(server_of(policy)) as url, Http(url=url, logprobs="processed").open(policy) as server:
            yield server
    else:
        with Local(engine="plain").open(policy) as local:
            record(folder / "step-000001.parquet", local.sample(REQUESTS, sampling), sampling)
        with Replay(path=folder).open(policy) as replay:
            yield replay


def record(path: Path, completions: list[tuple[Completion, ...]], sampling: Sampling) -> None:
    groups = [
        Group(
            Prompt(f"p{i}", text="", tokens=request.tokens),
            tuple(Rollout(c, k, seed) for k, (c, seed) in enumerate(zip(done, request.seeds, strict=True))),
            sampling.transform,
        )
        for i, (request, done) in enumerate(zip(REQUESTS, completions, strict=True))
    ]
    write(path, groups, 1)


@pytest.fixture(scope="module")
def one_by_one(policy: Any) -> dict[str, list[tuple[Completion, ...]]]:
    """Each completion as it is drawn alone, once for each of SAMPLINGS."""
    with Local(engine="plain").open(policy) as local:
        return {
            name: [tuple(local.sample([Request(r.tokens, (s,))], how)[0][0] for s in r.seeds) for r in REQUESTS]
            for name, how in SAMPLINGS.items()
        }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAMPLINGS)
def test_each_seed_of_each_request_gets_its_completion_in_order(
    kind: str, name: str, policy: Any, one_by_one: dict[str, list[tuple[Completion, ...]]], tmp_path: Path
) -> None:
    sampling, alone = SAMPLINGS[name], one_by_one[name]
    with opened(kind, policy, tmp_path, sampling) as sampler:
        together = sampler.sample(REQUESTS, sampling)
        again = sampler.sample(REQUESTS, sampling)
    assert [[c.tokens for c in row] for row in together] == [[c.tokens for c in row] for row in alone]
    assert [[c.text for c in row] for row in together] == [[c.text for c in row] for row in alone]
    assert [[c.finish for c in row] for row in together] == [[c.finish for c in row] for row in alone]
    for one, other in zip(sum(together, ()), sum(alone, ()), strict=True):
        assert one.logps == pytest.approx(other.logps, abs=1e-4)
    assert together == again
    assert together[0][0].tokens == together[2][1].tokens  # the same prompt and the same seed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["plain", "stopped"])
def test_a_completion_ends_as_its_finish_says(kind: str, name: str, policy: Any, tmp_path: Path) -> None:
    sampling = SAMPLINGS[name]
    with opened(kind, policy, tmp_path, sampling) as sampler:
        done = sum(sampler.sample(REQUESTS, sampling), ())
    decode = policy.tokenizer.decode
    assert {c.finish for c in done} >= ({Finish.EOS, Finish.LENGTH} if name == "plain" else {Finish.STOP})
    for completion in done:
        tokens = list(completion.tokens)
        assert 0 < len(tokens) <= sampling.max_tokens
        assert len(completion.logps) == len(tokens)
        assert max(completion.logps) <= 0.0
        assert len(completion.entropies) in (0, len(tokens))
        assert not set(tokens[:-1]) & set(EOS)
        assert (completion.finish is Finish.EOS) == (tokens[-1] in EOS)
        whole = decode(tokens[:-1] if completion.finish is Finish.EOS else tokens, skip_special_tokens=True)
        assert not any(stop in decode(tokens[:-1], skip_special_tokens=True) for stop in sampling.stop)
        if completion.finish is Finish.STOP:
            assert any(stop in whole for stop in sampling.stop)
            assert completion.text == whole[: min(i for s in sampling.stop if (i := whole.find(s)) >= 0)]
        else:
            assert completion.text == whole
        if completion.finish is Finish.LENGTH:
            assert len(tokens) == sampling.max_tokens


@pytest.mark.parametrize("kind", ["fast", "plain", "http"])
def test_a_prompt_that_fills_the_context_is_refused_and_a_shorter_one_gets_what_is_left(
    kind: str, policy: Any, tmp_path: Path
) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=24)
    with opened(kind, policy, tmp_path, sampling) as sampler:
        for size in (0, CONTEXT, CONTEXT + 5):
            with pytest.raises(GenerationError, match=f"request 1; found: a prompt of {size} tokens"):
                sampler.sample([REQUESTS[0], Request((9,) * size, (1,))], sampling)
        ((done,),) = sampler.sample([Request((9,) * (CONTEXT - 2), (1,))], sampling)
    assert len(done.tokens) <= 2
    assert done.finish is (Finish.EOS if done.tokens[-1] in EOS else Finish.LENGTH)


@pytest.mark.parametrize("kind", ["fast", "plain", "http"])
def test_no_requests_get_no_completions(kind: str, policy: Any, tmp_path: Path) -> None:
    with opened(kind, policy, tmp_path, SAMPLINGS["plain"]) as sampler:
        assert sampler.sample([], SAMPLINGS["plain"]) == []
        assert sampler.sample([Request((4, 5), ())], SAMPLINGS["plain"]) == [()]
