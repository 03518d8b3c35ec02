"""Scores by a sequence-classification model: how it reads a prompt and an answer, and which number is the score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from klimb.errors import DataError, RewardError
from klimb.policy.chat import templated, turns_of
from klimb.policy.dated import SET
from klimb.policy.markers import MARK, Markers
from klimb.policy.outline import Outlines
from klimb.types import Completion, Outcome, Prompt, Score

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.policy.classifier import Classifier, Text
    from klimb.policy.reward_head import Scale

WHOSE = "the reward model's"
LINES = "{prompt}\n{answer}"
PARTS = re.compile(r"(\{prompt\}|\{answer\})")


class Reading:
    """What of a prompt and an answer a model reads, as its tokenizer makes tokens of it.

    The whole conversation by its chat template; where it has none, prompt and answer as its tokenizer joins a pair of
    texts; where it has no separator for that, two lines. `join` is another text with {prompt} and {answer} in it.
    An answer that spells a special token is read as that text; one that spells another token between turns is not read.
    """

    def __init__(self, classifier: Classifier, join: str | None, *, cuts: bool) -> None:
        self._tokenizer: Any = classifier.tokenizer
        self._context, self._cuts, self._markers = classifier.context, cuts, Markers(self._tokenizer)
        self._outlines = Outlines(self._tokenizer, WHOSE)
        self._templated = join is None and bool(getattr(self._tokenizer, "chat_template", None))
        self._paired = join is None and not self._templated and self._tokenizer.sep_token is not None
        self._join = join or LINES

    def describe(self) -> str:
        """The reading in words."""
        if self._templated:
            return "reads its chat template"
        return "reads prompt and answer as a pair of texts" if self._paired else f"reads {self._join!r}"

    def __call__(self, prompt: Prompt, answer: str) -> tuple[Text, int]:
        """The tokens, and how many of the prompt's were cut so that they fit. Raises DataError where they do not."""
        if self._paired:
            ready, text, frame = self._markers.pair(asked(prompt), answer), answer, MARK
        else:
            write = self._template if self._templated else self._joined
            text, frame = write(prompt, answer), write(prompt, MARK)
            ready = self._markers.read(text, frame, self._outline(prompt), closed=not self._templated)
        over = len(ready["input_ids"]) - self._context
        if over <= 0:
            if not len(ready["input_ids"]):
                raise DataError(f"prompt {prompt.id!r} and its answer want at least one token", "none", "some text")
            return ready, 0
        own = 0 if self._templated else int(self._tokenizer.num_special_tokens_to_add(pair=self._paired))
        if not self._cuts or own + self._markers.rest(text, frame) >= self._context:
            raise DataError(
                f"prompt {prompt.id!r} and its answer must fit into the reward model's {self._context} tokens",
                f"{over} more",
                "rewards.N.cut=true, which cuts the beginning of prompts" if not self._cuts else "a shorter answer",
            )
        return (self._cut_pair(prompt, answer) if self._paired else self._cut(ready["input_ids"])), over

    def _template(self, prompt: Prompt, answer: str) -> str:
        turns = [*_turns(prompt), {"role": "assistant", "content": answer}]
        cure = "roles and an order of turns that it knows, or rewards.N.join"
        return templated(self._tokenizer, prompt, turns, WHOSE, cure, SET)

    def _outline(self, prompt: Prompt) -> str:
        """What stands between what is said."""
        if self._templated:
            return self._outlines(prompt, [turn["role"] for turn in _turns(prompt)])
        return PARTS.sub(MARK, self._join)

    def _joined(self, prompt: Prompt, answer: str) -> str:
        parts = PARTS.split(self._join)
        return "".join({"{prompt}": asked(prompt), "{answer}": answer}.get(part, part) for part in parts)

    def _cut(self, ids: Sequence[int]) -> Text:
        """The last tokens that fit, after a special one at the beginning."""
        lead = int(ids[0] in self._tokenizer.all_special_ids)
        return {"input_ids": [*ids[:lead], *ids[len(ids) - self._context + lead :]]}

    def _cut_pair(self, prompt: Prompt, answer: str) -> Text:
        self._tokenizer.truncation_side = "left"
        return self._markers.pair(asked(prompt), answer, truncation="only_first", max_length=self._context)


class ClassifiedScorer:
    """The opened source. `spent` counts the answers whose prompt was cut; each says it beside its score, too."""

    def __init__(
        self, classifier: Classifier, reading: Reading, pick: Picked, scale: Scale | None, tokens: int
    ) -> None:
        self._classifier, self._reading, self._pick, self._tokens = classifier, reading, pick, tokens
        self._mean, self._std = (0.0, 1.0) if scale is None else (scale.mean, scale.std)
        own = classifier.model.config.problem_type  # which loss of transformers taught it; none did teach preferences
        self.unit = self._std if len(classifier.labels) == 1 and own is None else None
        self.spent = {"prompts_cut": 0}
        said = "scores as they are" if scale is None else f"scores less {scale.mean:.4g}, over {scale.std:.4g}"
        self.note = f"{classifier.describe()}; {reading.describe()}; {pick.describe()}; {said}"

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """One score for each pair; what the model cannot read whole cannot be scored, unless prompts may be cut."""
        texts: list[Text] = []
        found: list[Score | int] = []
        for prompt, completion in zip(prompts, completions, strict=True):
            try:
                text, cut = self._reading(prompt, completion.text)
            except DataError as fault:
                found.append(Score(Outcome.UNSCORABLE, reason=fault.line()))
                continue
            texts.append(text)
            found.append(cut)
        values = iter(self._pick(self._classifier.logits(texts, self._tokens)).tolist())
        return [one if isinstance(one, Score) else self._score(next(values), one) for one in found]

    def _score(self, value: float, cut: int) -> Score:
        self.spent["prompts_cut"] += cut > 0
        score = Score.of((value - self._mean) / self._std)
        reason = f"the prompt's first {cut} tokens were cut" if cut and score.counts else score.reason
        return Score(score.outcome, score.value, reason)


class Picked:
    """Which number of the logits is the score.

    Of several labels c its logit z_c, or its log-odds: z_c - log sum of exp(z) over the others, and z_c itself where
    labels do not exclude each other. Raises RewardError for a label that is not there.
    """

    def __init__(self, classifier: Classifier, label: int | str | None, of: Literal["log_odds", "logit"]) -> None:
        names, self._of = classifier.labels, of
        if len(names) == 1 or classifier.model.config.problem_type == "multi_label_classification":
            self._of = "logit"
        index = (0 if len(names) == 1 else None) if label is None else label
        if isinstance(index, str):
            index = names.index(index) if names.count(index) == 1 else None
        if index is None or not 0 <= index < len(names):
            shown = ", ".join(f"{number} {name}" for number, name in list(enumerate(names))[:8])
            asked_for = "one label to score by" if label is None else f"the label {label!r}"
            raise RewardError(
                f"{asked_for} of {classifier.name}", f"{len(names)}: {shown}", "rewards.N.label=NAME, or its number"
            )
        self._index, self._name = index, names[index]

    def __call__(self, logits: Tensor) -> Tensor:
        """The scores (n) of logits (n, labels)."""
        own = logits[:, self._index]
        if self._of == "logit":
            return own
        others = [index for index in range(logits.shape[1]) if index != self._index]
        return own - logits[:, others].logsumexp(-1)

    def describe(self) -> str:
        """The choice in words."""
        return f"the {self._of.replace('_', '-')} of label {self._name!r}"


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt as turns. Raises DataError."""
    return turns_of(prompt) or [{"role": "user", "content": asked(prompt)}]


def asked(prompt: Prompt) -> str:
    """The prompt as one text: its only message, or a line `role: content` for each of several. Raises DataError."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    if not prompt.messages and prompt.text is None:
        raise DataError(f"prompt {prompt.id!r} wants messages or a text", "neither", "fill one of the two")
    return prompt.text or "\n".join(f"{turn.role}: {turn.content}" for turn in prompt.messages)
