"""The generator that repeats: completions out of the rollouts of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from klimb.errors import DataError, GenerationError
from klimb.generation.base import Generator, Request, Sampling
from klimb.types import Completion, Transform

if TYPE_CHECKING:
    from klimb.policy.policy import Policy


class Replay(Generator):
    """Answers with recorded completions: by seed where the seeds are recorded, else in their order."""

    type: Literal["replay"] = "replay"
    """The kind of generator."""
    path: Path
    """A rollouts file (Parquet), or a folder of them such as `rollouts` in a run directory."""

    def open(self, policy: Policy) -> AbstractContextManager[ReplaySampler]:
        """Reads the recording. Raises DataError where it cannot be read."""
        return _opened(self.path)


@dataclass(slots=True)
class Recorded:
    """What was drawn for one prompt, in order of (file, k), and the same by seed."""

    transforms: set[Transform] = field(default_factory=set)
    completions: list[Completion] = field(default_factory=list)
    by_seed: dict[int, Completion] = field(default_factory=dict)


class ReplaySampler:
    """Completions by prompt tokens. What a request gets never depends on the requests before it."""

    def __init__(self, path: Path, prompts: dict[tuple[int, ...], Recorded]) -> None:
        self.path, self.prompts = path, prompts

    def describe(self) -> str:
        """What is repeated."""
        count = sum(len(prompt.completions) for prompt in self.prompts.values())
        return f"replay ({count} completions of {len(self.prompts)} prompts in {self.path})"

    def refresh(self) -> None:
        """Nothing to do: a recording stays what it is."""

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Completion, ...]]:
        """One completion for each seed of each request, in order. Raises GenerationError."""
        return [self._one(index, request, sampling) for index, request in enumerate(requests)]

    def _one(self, index: int, request: Request, sampling: Sampling) -> tuple[Completion, ...]:
        asked = f"{len(request.seeds)} recorded completions for request {index}"
        found = self.prompts.get(request.tokens)
        if found is None:
            shown = ", ".join(map(str, request.tokens[:8]))
            raise GenerationError(
                asked,
                f"no prompt with its {len(request.tokens)} tokens ({shown}, ...) in {self.path}",
                "the recording of a run with the same prompts, model and chat template",
            )
        if found.transforms != {sampling.transform}:
            raise GenerationError(
                asked, f"ones drawn under {_words(found.transforms)}", "the same temperature, top_p and top_k"
            )
        done = self._chosen(found, request)
        if len(done) < len(request.seeds):
            raise GenerationError(asked, f"{len(done)} in {self.path}", "fewer completions a prompt")
        longest = max((len(completion.tokens) for completion in done), default=0)
        if longest > sampling.max_tokens:
            raise GenerationError(
                f"{asked} of at most {sampling.max_tokens} tokens", f"one of {longest}", f"max_tokens={longest}"
            )
        return done

    def _chosen(self, found: Recorded, request: Request) -> tuple[Completion, ...]:
        if all(seed in found.by_seed for seed in request.seeds):
            return tuple(found.by_seed[seed] for seed in request.seeds)
        return tuple(found.completions[: len(request.seeds)])


@contextmanager
def _opened(path: Path) -> Iterator[ReplaySampler]:
    yield ReplaySampler(path, _recording(path))


def _recording(path: Path) -> dict[tuple[int, ...], Recorded]:
    from klimb.records import DISCARDED, used
    from klimb.rollouts import read

    files = used(path) if path.is_dir() else [path]
    if not files:
        raise DataError(f"rollouts to repeat in {path}", "no .parquet file", "generator.path=RUN/rollouts")
    prompts: dict[tuple[int, ...], Recorded] = {}
    for group in (group for file in files for group in read(file)):
        recorded = prompts.setdefault(group.prompt.tokens, Recorded())
        recorded.transforms.add(group.transform)
        for rollout in group.rollouts:
            recorded.completions.append(rollout.completion)
            recorded.by_seed[rollout.seed] = rollout.completion
    left = sorted(path.glob(f"*{DISCARDED}")) if path.is_dir() else []
    for group in (group for file in left for group in read(file)):  # known by seed alone: nobody learned from them
        recorded = prompts.setdefault(group.prompt.tokens, Recorded())
        recorded.transforms.add(group.transform)
        recorded.by_seed |= {rollout.seed: rollout.completion for rollout in group.rollouts}
    return prompts


def _words(transforms: set[Transform]) -> str:
    return " and ".join(
        f"temperature {one.temperature:g}, top_p {one.top_p:g}, top_k {one.top_k}"
        + (", forking {:g} ({:g}, {:g})".format(*one.forking) if one.forking else "")
        for one in sorted(transforms, key=lambda one: (one.temperature, one.top_p, one.top_k, one.forking or ()))
    )
