"""A score by a reward model: one that klimb has trained, or any sequence-classification model of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb.errors import DataError, RewardError
from klimb.rewards.base import Reward, Scorer
from klimb.types import Completion, Finish, Group, Outcome, Prompt, Rollout, Score

if TYPE_CHECKING:
    from klimb.policy.policy import Policy
    from klimb.policy.reward_head import Scale


class RewardModel(Reward):
    """The score of a reward model: one that klimb trained, or any sequence-classification model of transformers.

    Of klimb's own it is the value of the state at the answer's last token, before its EOS; of another what
    `AutoModelForSequenceClassification` gives to the text alone. It reads texts with its own tokenizer and chat
    template, and takes the memory of one more model. A policy that is trained on it long enough finds its faults: keep
    one beside it, trained on other pairs, with weight 0.
    """

    type: Literal["reward_model"] = "reward_model"
    path: Path
    """The folder `checkpoints/step-N/model` of a run with objective.type=bradley_terry; another folder; a hub name."""
    normalised: bool | None = None
    """Give (r - mean) / std by the scale stored with it; false = r; unset = true, of a model not klimb's if it can."""
    label: int | str | None = None
    """The label whose score it is, by name or number; a model of one label needs none."""
    of: Literal["log_odds", "logit"] = "log_odds"
    """Of several labels: log p/(1-p) of that label, or its logit, which is known only up to a constant of the text."""
    join: Annotated[str, Field(pattern=r"\{answer\}")] | None = None
    """A text with {prompt} and {answer}; unset = the chat template, without one a pair, without [SEP] two lines."""
    cut: bool = False
    """Cut the beginning of prompts that do not fit, which is counted; false = such answers are unscorable."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """The arithmetic; auto = bfloat16 where the hardware has it and the model is not small."""
    tokens: Annotated[int, Field(ge=16)] = 4096
    """The most tokens of one forward pass: memory only."""

    def open(self) -> AbstractContextManager[Scorer]:
        return _opened(self)


class ModelScorer:
    """The opened model."""

    def __init__(self, policy: Policy, scale: Scale | None, tokens: int) -> None:
        self._policy, self._scale, self._tokens = policy, scale, tokens
        self.unit = 1.0 if scale is None else scale.std
        self.note = f"{policy.describe()}; " + (
            "scores as they are" if scale is None else f"scores less {scale.mean:.4g}, over {scale.std:.4g}"
        )

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """One score for each pair; what does not fit into the model's context cannot be scored."""
        groups: list[Group] = []
        found: list[Score | None] = []
        for prompt, completion in zip(prompts, completions, strict=True):
            try:
                self._add(groups, prompt, completion)
                found.append(None)
            except DataError as fault:
                found.append(Score(Outcome.UNSCORABLE, reason=fault.line()))
        values = iter(self._values(groups) if groups else [])
        return [Score.of(next(values)) if one is None else one for one in found]

    def _add(self, groups: list[Group], prompt: Prompt, completion: Completion) -> None:
        """Adds one answer; answers to one prompt that stand side by side share it. Raises DataError."""
        tokens = self._policy.written(prompt, completion.text)
        asked = self._policy.render(replace(prompt, tokens=()), len(tokens))
        row = Rollout(Completion(tokens, (), completion.text, Finish.EOS), 0, 0)
        if groups and groups[-1].prompt.tokens == asked.tokens:
            groups[-1] = replace(groups[-1], rollouts=(*groups[-1].rollouts, row))
        else:
            groups.append(Group(asked, (row,)))

    def _values(self, groups: Sequence[Group]) -> list[float]:
        """The reward of each answer of the groups, in order."""
        import torch

        from klimb.batch import Batch

        values: list[float] = []
        for part in Batch.of(groups).split(self._tokens):
            with torch.no_grad():
                found = self._policy(part).value
            assert found is not None, "a reward model has a value head"
            values += found[part.lengths.cumsum(0) - 1].tolist()
        scale = self._scale
        return values if scale is None else [(value - scale.mean) / scale.std for value in values]


@contextmanager
def _opened(reward: RewardModel) -> Iterator[Scorer]:
    from klimb.policy import reward_head

    yield _own(reward) if reward_head.is_ours(reward.path.expanduser()) else _others(reward)


def _own(reward: RewardModel) -> Scorer:
    """A model that klimb trained. Raises ModelError, and RewardError for settings of models that it did not."""
    from klimb.policy import reward_head
    from klimb.policy.base import PolicySettings
    from klimb.policy.dated import SET
    from klimb.policy.loading import load

    folder = reward.path.expanduser()
    fields = RewardModel.model_fields
    if given := [name for name in ("label", "of", "join", "cut") if getattr(reward, name) != fields[name].default]:
        found = f"{', '.join(given)}, and it reads, and scores, as it was trained"
        raise RewardError(f"the score of {folder}, which klimb trained", found, f"leave out {', '.join(given)}")
    head = reward_head.read(folder)
    scale = _scale(reward, head.scale) if reward.normalised is not False else None
    settings = PolicySettings(system=head.system, date=head.date or SET, precision=reward.precision)
    policy = load(settings.at(folder), speaks=False)
    policy.add_critic()
    reward_head.begin(policy, folder)
    for weight in policy.parameters():
        weight.requires_grad_(False)
    return ModelScorer(policy, scale, reward.tokens)


def _others(reward: RewardModel) -> Scorer:
    """Any sequence-classification model. Raises ModelError, RewardError."""
    from klimb.policy.classifier import open_classifier
    from klimb.policy.reward_head import scale_of
    from klimb.rewards.classified import ClassifiedScorer, Picked, Reading

    classifier = open_classifier(str(reward.path), reward.precision)
    stored = scale_of(classifier.model.config.to_dict()) if reward.normalised is not False else None
    scale = _scale(reward, stored) if stored is not None or reward.normalised else None
    pick = Picked(classifier, reward.label, reward.of)
    return ClassifiedScorer(classifier, Reading(classifier, reward.join, cuts=reward.cut), pick, scale, reward.tokens)


def scores_raw(rewards: Iterable[object], path: Path | None) -> bool:
    """Whether a source of reward takes the scores of the model at `path` as they are, in whatever spelling."""
    raw = [one.path for one in rewards if isinstance(one, RewardModel) and one.normalised is False]
    return path is not None and path.expanduser().resolve() in {one.expanduser().resolve() for one in raw}


def _scale(reward: RewardModel, scale: Scale | None) -> Scale:
    """The scale that scores are normalised by. Raises RewardError where there is none that can be used."""
    if scale is None or scale.std == 0:
        found = "no reward_scale in its config.json" if scale is None else "held-out scores that are all equal"
        cure = "rewards.N.normalised=false, or train it further"
        raise RewardError(f"normalise the scores of {reward.path}", found, cure)
    return scale
