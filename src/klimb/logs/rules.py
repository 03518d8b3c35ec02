"""The written rules for what stands wrong in a log: which rows are refused, and which are repaired, and how.

Nothing is dropped in silence: each case becomes a note with its row, its field, its rule, what stood there and a cure.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from klimb.data.faulty import show

REFUSED, REPAIRED = "refused", "repaired"


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens in one case. `says` is the rule itself, `cure` what a person can do about it."""

    action: str
    says: str
    cure: str


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {
        "not-a-row": Rule(REFUSED, "what is no JSON object is no row", "one whole JSON object a line"),
        "no-prompt": Rule(REFUSED, "a row must say what was asked", "name its field in the map, or fill it"),
        "no-completion": Rule(REFUSED, "a row must say what was answered", "name its field in the map, or fill it"),
        "bad-text": Rule(REFUSED, "a text is Unicode without NUL, of at most a million characters", "mend the text"),
        "bad-turns": Rule(
            REFUSED, "a conversation is a list of {role, content} of system, user and assistant", "mend the messages"
        ),
        "not-text": Rule(REFUSED, "images, sounds and tool calls cannot be learned", "take the row out"),
        "several-turns": Rule(REFUSED, "a completion is one turn of the assistant", "one row a turn"),
        "bad-tokens": Rule(REFUSED, "token ids are whole numbers from 0", "log the ids that the sampler gave"),
        "bad-length": Rule(REFUSED, "the completion's length lies within its tokens", "log both of one sample"),
        "masked-tokens": Rule(
            REFUSED, "every token of a completion was drawn by the policy", "one row for each stretch that it drew"
        ),
        "unfinished": Rule(REFUSED, "a sample that was aborted or failed is no answer", "take the row out"),
        "text-differs": Rule(
            REFUSED, "logged tokens give the logged text", "--tokenizer with the model that wrote the log"
        ),
        "unrenderable": Rule(
            REFUSED, "the model's chat template renders the prompt, and both fit its context", "another model"
        ),
        "bad-number": Rule(REFUSED, "a step is a whole number from 0", "mend the number"),
        "bad-transform": Rule(
            REFUSED, "a temperature is 0 or more, top_p in (0, 1], top_k a whole number from 0", "mend the number"
        ),
        "bad-field": Rule(REFUSED, "the field holds what the map says it holds", "correct the map, or mend the row"),
        "number-as-text": Rule(REPAIRED, "a score written as text is read as the number it is", "write numbers"),
        "no-score": Rule(REPAIRED, "a score that is not there is unscorable: the row has no reward", "log a score"),
        "bad-score": Rule(
            REPAIRED, "a score that is no finite number and no thumb is unscorable: the row has no reward", "mend it"
        ),
        "bad-column": Rule(
            REPAIRED, "what a kept column holds that JSON cannot, or too deep in it, is null", "log finite numbers"
        ),
        "later-turns": Rule(REPAIRED, "turns after the last answer are left out", "nothing to do"),
        "joined-parts": Rule(REPAIRED, "a content of several text parts is joined", "nothing to do"),
        "developer-role": Rule(REPAIRED, "the role developer is read as system", "nothing to do"),
        "finish-unknown": Rule(
            REPAIRED, "an unknown reason to finish is stop: the answer was whole", "log stop, eos or length"
        ),
        "logps-count": Rule(REPAIRED, "log-probs that are not one a token are left out", "log one for each token"),
        "logps-values": Rule(REPAIRED, "log-probs that are not finite or above 0 are left out", "log natural logs"),
        "logps-rounded": Rule(REPAIRED, "a log-prob above 0 by at most 1e-4 is 0", "nothing to do"),
        "logps-transform": Rule(
            REPAIRED, "log-probs without a known temperature, top_p and top_k are left out", "name them in the map"
        ),
        "logps-greedy": Rule(REPAIRED, "log-probs at temperature 0 are left out: nothing was drawn", "sample"),
        "logps-of-model": Rule(
            REPAIRED,
            "log-probs from before temperature, top_p or top_k changed the distribution are left out",
            "log those of the distribution that was drawn from",
        ),
        "logps-no-tokens": Rule(REPAIRED, "log-probs without token ids are left out", "--tokenizer MODEL"),
        "logps-other-tokens": Rule(
            REPAIRED, "log-probs of pieces that the tokenizer does not make are left out", "the model's own tokenizer"
        ),
        "added-end": Rule(
            REPAIRED, "a completion that ended by itself, without log-probs, gets the end token", "log the token ids"
        ),
    }
)


class Unusable(Exception):
    """A row that a rule refuses."""

    def __init__(self, rule: str, field: str, found: object) -> None:
        super().__init__(rule)
        self.rule, self.field, self.found = rule, field, found


@dataclass(frozen=True, slots=True)
class Note:
    """One case in which a rule was used. Rows count from 1."""

    row: int
    field: str
    rule: str
    found: str

    @classmethod
    def of(cls, row: int, field: str, rule: str, found: object) -> Note:
        """The note, with what was found as one harmless short line."""
        plain = isinstance(found, str) and len(found) < 80 and found.isprintable()
        return cls(row, field, rule, str(found) if plain else show(found))

    def record(self) -> dict[str, Any]:
        """For the list that programs read."""
        rule = RULES[self.rule]
        where: dict[str, Any] = {"row": self.row, "field": self.field, "rule": self.rule, "action": rule.action}
        return {
            **where,
            "asked": rule.says,
            "found": self.found.encode("ascii", "backslashreplace").decode(),
            "cure": rule.cure,
        }
