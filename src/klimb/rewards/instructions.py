"""Instructions that a program can check, as in IFEval (2311.07911): so many words, no comma, this keyword, ..."""

from __future__ import annotations

from typing import Any, Literal

from klimb.rewards.base import Reward
from klimb.rewards.instruction_checks import CHECKS
from klimb.types import Completion, Outcome, Prompt, Score


class Instructions(Reward):
    """Checks the instructions that the data name, in IFEval's columns `instruction_id_list` and `kwargs`.

    Words are what spaces part and sentences end with `.`, `!` or `?`: no model cuts them, so a few counts differ from
    IFEval's. An instruction that is not known makes the prompt unscorable, by name.
    """

    type: Literal["instructions"] = "instructions"
    take: Literal["all", "share"] = "all"
    """1 where all are kept and else 0, or the share of them that are."""

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        names, words = prompt.metadata.get("instruction_id_list"), prompt.metadata.get("kwargs")
        if not isinstance(names, list) or not isinstance(words, list) or not names or len(names) != len(words):
            return Score(Outcome.UNSCORABLE, reason="the prompt has no instruction_id_list with as many kwargs")
        if strange := [str(name) for name in names if name not in CHECKS]:
            return Score(Outcome.UNSCORABLE, reason=f"not known: {', '.join(strange)}"[:200])
        try:
            kept = [_keeps(name, completion.text, given) for name, given in zip(names, words, strict=True)]
        except (TypeError, ValueError, AttributeError) as error:
            return Score(Outcome.UNSCORABLE, reason=f"the arguments of an instruction: {error}"[:200])
        return Score.of(float(all(kept)) if self.take == "all" else sum(kept) / len(kept))


def _keeps(name: str, text: str, given: Any) -> bool:
    arguments = {key: value for key, value in dict(given or {}).items() if value is not None}
    return bool(text.strip()) and CHECKS[name](text, **arguments)
