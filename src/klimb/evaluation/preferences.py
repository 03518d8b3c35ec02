"""Held-out preferences: how often the policy prefers what people do, and how far it went from where it began."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from klimb import functional as F
from klimb.evaluation.answers import noted
from klimb.evaluation.divergence import Divergence, Model
from klimb.evaluation.intervals import wilson
from klimb.types import Completion, Finish, Group, Label, Prompt, Reply, Rollout, Transform

if TYPE_CHECKING:
    from klimb.batch import Batch


Ask = Callable[[int], tuple[dict[str, float], Sequence[Group]]]


@dataclass(frozen=True, slots=True)
class PreferenceExam:
    """What a run with an initial policy is measured by: `ask` draws the held-out answers (and may have them scored).

    `given` are the answers of the data to the held-out prompts, by the prompt's id; none where the data give none.
    Of longer ones the first `most` tokens are read, as in training.
    """

    ask: Ask
    far: Divergence
    prompts: Sequence[Prompt] = ()
    given: Mapping[str, tuple[Reply, ...]] = field(default_factory=dict)
    most: int | None = None

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """The metrics after `step`, and the held-out answers. Raises GenerationError, RewardError."""
        told, groups = self.ask(step)
        gaps, (far, groups) = self.gaps(), self.far(groups, step)
        return {**told, **implicit(list(gaps.values())), **far}, noted(groups, "eval/implicit_gap", gaps)

    def gaps(self) -> dict[str, float]:
        """log(pi/ref) of the chosen answer less that of the rejected one, by the prompt's id; empty without pairs."""
        from klimb.batch import Batch

        pairs = [group for prompt in self.prompts if (group := paired(prompt, self.given, self.far.policy, self.most))]
        parts = Batch.of(pairs).split(self.far.tokens) if pairs else ()
        values = [value for part in parts for value in self._gaps(part)]
        return {group.prompt.id: value for group, value in zip(pairs, values, strict=True)}

    def _gaps(self, part: Batch) -> list[float]:
        import torch

        with torch.no_grad():
            ratio = self.far.policy(part).logp - self.far.reference(part).logp
        rows = F.segments.sum_by(ratio, part.row, part.rows)
        assert part.label is not None
        gaps: list[float] = (rows[part.label == Label.CHOSEN] - rows[part.label == Label.REJECTED]).tolist()
        return gaps


def paired(prompt: Prompt, given: Mapping[str, tuple[Reply, ...]], policy: Model, most: int | None) -> Group | None:
    """The pair of a prompt as labelled rows of at most `most` tokens; None where the data give no pair."""
    replies = given.get(prompt.id, ())
    if [reply.chosen for reply in replies] != [True, False]:
        return None
    both = zip(replies, (Label.CHOSEN, Label.REJECTED), strict=True)
    done = [(_cut(policy.reply(reply.text), reply.text, most), label) for reply, label in both]
    return Group(prompt, tuple(Rollout(one, k, -1, label=label) for k, (one, label) in enumerate(done)), Transform())


def _cut(tokens: tuple[int, ...], text: str, most: int | None) -> Completion:
    whole = most is None or len(tokens) <= most
    return Completion(tokens if whole else tokens[:most], (), text, Finish.EOS if whole else Finish.LENGTH)


def implicit(gaps: Sequence[float]) -> dict[str, float]:
    """The share of pairs whose chosen answer has the larger log(pi/ref), with its interval; a tie counts as a half.

    Before training every pair is a tie, and the share is a half. Empty where there are no pairs.
    """
    if not gaps:
        return {}
    right = sum(0.5 if gap == 0 else float(gap > 0) for gap in gaps)
    low, high = wilson(right, len(gaps))
    found = {"eval/implicit_accuracy": right / len(gaps), "eval/implicit_low": low, "eval/implicit_high": high}
    return found | {"eval/implicit_gap": fmean(gaps), "eval/pairs": float(len(gaps))}
