"""What a policy makes of the answers that the data give to held-out prompts: log-probs, beside the initial policy's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from klimb import functional as F
from klimb.evaluation.intervals import wilson
from klimb.types import Completion, Encode, Finish, Group, Label, Prompt, Reply, Rollout, Transform

if TYPE_CHECKING:
    from klimb.batch import Batch

Model = Any
"""A policy: it gives log-probs when called, `distributions`, and the token ids of an answer."""
Replies = Mapping[str, tuple[Reply, ...]]
"""The answers of the data, by the prompt's id."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A given answer: of which prompt, whether it is the preferred one, log pi, log(pi/ref), and how many tokens."""

    prompt: str
    chosen: bool
    logp: float
    ratio: float
    tokens: int


def answered(prompt: Prompt, replies: Sequence[Reply], encode: Encode, most: int | None) -> Group:
    """The answers to a prompt as labelled rows of at most `most` tokens."""
    labels = [Label.CHOSEN if reply.chosen else Label.REJECTED for reply in replies]
    done = [_cut(encode(prompt, reply.text), reply.text, most) for reply in replies]
    rows = (Rollout(one, k, -1, label=label) for k, (one, label) in enumerate(zip(done, labels, strict=True)))
    return Group(prompt, tuple(rows), Transform())


def paired(prompts: Sequence[Prompt], given: Replies, encode: Encode, most: int | None) -> list[Group]:
    """The pairs of those prompts to which the data give one: the chosen answer, then the rejected one."""
    found = [(prompt, given.get(prompt.id, ())) for prompt in prompts]
    return [
        answered(prompt, replies, encode, most)
        for prompt, replies in found
        if [reply.chosen for reply in replies] == [True, False]
    ]


def heard(groups: Sequence[Group], policy: Model, reference: Model, tokens: int) -> list[Heard]:
    """Both policies' word on each answer, in order; parts of at most `tokens` tokens are run at a time."""
    from klimb.batch import Batch

    rows = [(group.prompt.id, one) for group in groups for one in group.rollouts]
    parts = Batch.of(groups).split(tokens) if groups else ()
    sums = [pair for part in parts for pair in _sums(part, policy, reference)]
    return [
        Heard(name, one.label is Label.CHOSEN, logp, ratio, len(one.completion.tokens))
        for (name, one), (logp, ratio) in zip(rows, sums, strict=True)
    ]


def gaps(answers: Sequence[Heard]) -> dict[str, float]:
    """log(pi/ref) of the chosen answer less that of the rejected one, by the prompt's id; of pairs alone."""
    sides = [{one.prompt: one.ratio for one in answers if one.chosen is kind} for kind in (True, False)]
    return {prompt: ratio - sides[1][prompt] for prompt, ratio in sides[0].items() if prompt in sides[1]}


def implicit(found: Sequence[float]) -> dict[str, float]:
    """The share of pairs whose chosen answer has the larger log(pi/ref), with its interval, from the gaps.

    A tie counts as a half: before training every pair is a tie. Empty where there are no pairs.
    """
    if not found:
        return {}
    right = sum(0.5 if gap == 0 else float(gap > 0) for gap in found)
    low, high = wilson(right, len(found))
    shares = {"eval/implicit_accuracy": right / len(found), "eval/implicit_low": low, "eval/implicit_high": high}
    return shares | {"eval/implicit_gap": fmean(found), "eval/pairs": float(len(found))}


def drifts(answers: Sequence[Heard]) -> dict[str, float]:
    """How far the chosen and the rejected answers went, log(pi/ref) each, and -log pi a token of the chosen ones."""
    chosen, rejected = ([one for one in answers if one.chosen is kind] for kind in (True, False))
    found = {"eval/nll": -sum(one.logp for one in chosen) / sum(one.tokens for one in chosen)} if chosen else {}
    sides = {"eval/drift_chosen": chosen, "eval/drift_rejected": rejected}
    return found | {name: fmean(one.ratio for one in some) for name, some in sides.items() if some}


def _sums(part: Batch, policy: Model, reference: Model) -> list[tuple[float, float]]:
    """log pi and log(pi/ref) of each row."""
    import torch

    with torch.no_grad():
        now, ref = policy(part).logp, reference(part).logp
    logp, ratio = (F.segments.sum_by(values, part.row, part.rows).tolist() for values in (now, now - ref))
    return list(zip(logp, ratio, strict=True))


def _cut(tokens: tuple[int, ...], text: str, most: int | None) -> Completion:
    whole = most is None or len(tokens) <= most
    return Completion(tokens if whole else tokens[:most], (), text, Finish.EOS if whole else Finish.LENGTH)
