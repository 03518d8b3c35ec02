"""What the policy says itself, beside the logs: whether they hold it, and how far into an answer they do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.rollouts import files_of, tables
from klimb.rollouts.reading import prompt_of, rollout_of
from klimb.seeds import draw_seed

if TYPE_CHECKING:
    from klimb.policy.policy import Policy
    from klimb.types import Prompt

EACH = 4
"""Answers that the policy gives to a prompt."""
ROWS = 50_000
"""The rows of the logs that are looked at, the first ones."""
Answers = dict[tuple[int, ...], set[tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Covered:
    """Answers that the policy drew to prompts of the logs, beside all answers to the same prompts there.

    `whole`: the share that stands there word for word. `begun`: of an answer's tokens, the share up to where no logged
    answer to that prompt goes the same way, a mean. `logged`: how many different answers a prompt has in the logs.
    """

    prompts: int
    samples: int
    whole: float
    begun: float
    logged: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def cover(policy: Policy, logs: Path, most: int, seed: int = 0, temperature: float = 1.0) -> Covered | None:
    """Samples at most `most` answers at a temperature, `EACH` to a prompt; None where no prompt with tokens fits."""
    from klimb.generation.base import Request, Sampling
    from klimb.generation.local import Local

    prompts, answers = _logged(logs, max(1, most // EACH), policy)
    if not prompts:
        return None
    longest = max(len(answer) for known in answers.values() for answer in known)
    room = policy.context - max(len(prompt.tokens) for prompt in prompts)
    seeds = [tuple(draw_seed(seed, 0, prompt.id, k) for k in range(EACH)) for prompt in prompts]
    requests = [Request(prompt.tokens, row) for prompt, row in zip(prompts, seeds, strict=True)]
    with Local().open(policy) as sampler:
        drawn = sampler.sample(requests, Sampling(temperature=temperature, max_tokens=max(1, min(longest, room))))
    pairs = [(p, done.tokens) for p, row in zip(prompts, drawn, strict=True) for done in row]
    shared = [_begun(tokens, answers[prompt.tokens]) for prompt, tokens in pairs]
    return Covered(
        prompts=len(prompts),
        samples=len(pairs),
        whole=sum(tokens in answers[prompt.tokens] for prompt, tokens in pairs) / len(pairs),
        begun=sum(count / len(tokens) for count, (_, tokens) in zip(shared, pairs, strict=True)) / len(pairs),
        logged=sum(len(answers[prompt.tokens]) for prompt in prompts) / len(prompts),
    )


def _logged(logs: Path, most: int, policy: Policy) -> tuple[list[Prompt], Answers]:
    """The first `most` different prompts that fit the policy, and all that the logs answer to them."""
    vocabulary = policy.model.get_input_embeddings().weight.shape[0]
    prompts: list[Prompt] = []
    answers: Answers = {}
    seen = 0
    for path in files_of(logs):
        for first, table in tables(path):
            if seen >= ROWS:
                return prompts, answers
            seen += table.num_rows
            for row, value in enumerate(table.to_pylist(), first):
                prompt, done = prompt_of(path, row, value), rollout_of(path, row, value).completion
                fits = prompt.tokens and max(prompt.tokens) < vocabulary and len(prompt.tokens) < policy.context
                if not fits or not done.tokens:
                    continue
                if prompt.tokens not in answers:
                    if len(prompts) >= most:
                        continue
                    prompts.append(prompt)
                answers.setdefault(prompt.tokens, set()).add(done.tokens)
    return prompts, answers


def _begun(tokens: tuple[int, ...], known: set[tuple[int, ...]]) -> int:
    """How many tokens from the first on some known answer has in common with this one."""
    return max(next((k for k, pair in enumerate(zip(tokens, one, strict=False)) if pair[0] != pair[1]),
                    min(len(tokens), len(one))) for one in known)  # fmt: skip
