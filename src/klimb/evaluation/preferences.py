"""Held-out preferences: how often the policy prefers what people do, and how far it went from where it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from klimb import functional as F
from klimb.evaluation.base import Evaluate
from klimb.evaluation.intervals import normal, wilson
from klimb.generation.base import Request, Sampler, Sampling
from klimb.seeds import seed_of
from klimb.types import Completion, Finish, Group, Label, Prompt, Reply, Rollout, Transform

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.batch import Batch

Model = Any
"""A policy: it gives log-probs when called, `distributions`, and `reply` for the token ids of an answer."""


@dataclass(frozen=True, slots=True)
class PreferenceExam:
    """The held-out prompts with their given answers, the policy, and the initial one."""

    prompts: Sequence[Prompt]
    given: Mapping[str, tuple[Reply, ...]]
    settings: Evaluate
    sampling: Sampling
    seed: int
    policy: Model
    reference: Model
    sampler: Sampler
    tokens: int

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """The metrics after `step`, and the held-out samples. Raises GenerationError."""
        groups = self._sampled(step)
        return {**self._implicit(), **self._divergence(groups), **_lengths(groups)}, groups

    def _sampled(self, step: int) -> list[Group]:
        asked = self.settings.sampling(self.sampling)
        seeds = [seed_of("eval", self.seed, step, prompt.id) for prompt in self.prompts]
        requests = [Request(prompt.tokens, (one,)) for prompt, one in zip(self.prompts, seeds, strict=True)]
        done = self.sampler.sample(requests, asked)
        return [
            Group(prompt, (Rollout(row[0], 0, one, label=Label.FRESH),), asked.transform)
            for prompt, row, one in zip(self.prompts, done, seeds, strict=True)
        ]

    def _implicit(self) -> dict[str, float]:
        """The share of held-out pairs whose chosen answer has the larger log(pi/ref); a tie counts as a half.

        Before training every pair is a tie, and the share is a half. Empty where there are no pairs.
        """
        groups = [group for prompt in self.prompts if (group := paired(prompt, self.given, self.policy))]
        if not groups:
            return {}
        gaps = [value for part in _batch(groups).split(self.tokens) for value in self._gaps(part)]
        right = sum(0.5 if gap == 0 else float(gap > 0) for gap in gaps)
        low, high = wilson(round(right), len(gaps))
        found = {"eval/implicit_accuracy": right / len(gaps), "eval/implicit_low": low, "eval/implicit_high": high}
        return found | {"eval/implicit_gap": fmean(gaps), "eval/pairs": float(len(gaps))}

    def _gaps(self, part: Batch) -> list[float]:
        import torch

        with torch.no_grad():
            ratio = self.policy(part).logp - self.reference(part).logp
        rows = F.segments.sum_by(ratio, part.row, part.rows)
        assert part.label is not None
        gaps: list[float] = (rows[part.label == Label.CHOSEN] - rows[part.label == Label.REJECTED]).tolist()
        return gaps

    def _divergence(self, groups: Sequence[Group]) -> dict[str, float]:
        """KL(pi||ref) of whole answers on the policy's samples, nats: exact at each token, summed, with an interval."""
        values = [value for part in _batch(groups).split(self.tokens) for value in self._exact(part)]
        return dict(zip(("eval/kl", "eval/kl_low", "eval/kl_high"), normal(values), strict=True))

    def _exact(self, part: Batch) -> list[float]:
        import torch

        with torch.no_grad():
            both = zip(self.policy.distributions(part, 256), self.reference.distributions(part, 256), strict=True)
            tokens: Tensor = torch.cat([F.divergence.exact(now, ref) for now, ref in both])
        rows: list[float] = F.segments.sum_by(tokens, part.row, part.rows).tolist()
        return rows


def paired(prompt: Prompt, given: Mapping[str, tuple[Reply, ...]], policy: Model) -> Group | None:
    """The pair of a prompt as labelled rows; None where the data give no pair."""
    replies = given.get(prompt.id, ())
    if [reply.chosen for reply in replies] != [True, False]:
        return None
    labels = (Label.CHOSEN, Label.REJECTED)
    done = [Completion(policy.reply(reply.text), (), reply.text, Finish.EOS) for reply in replies]
    rows = tuple(Rollout(one, k, -1, label=label) for k, (one, label) in enumerate(zip(done, labels, strict=True)))
    return Group(prompt, rows, Transform())


def _lengths(groups: Sequence[Group]) -> dict[str, float]:
    done = [rollout.completion for group in groups for rollout in group.rollouts]
    lengths, ends = [len(one.tokens) for one in done], [one.finish is Finish.LENGTH for one in done]
    return {"eval/length": fmean(lengths), "eval/truncated": fmean(ends)}


def _batch(groups: Sequence[Group]) -> Batch:
    from klimb.batch import Batch

    return Batch.of(groups)
