"""From a row to a prompt and its answers: pairs and labelled answers in the forms that they are published in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from klimb.data.base import Question
from klimb.data.faulty import Unfit, show
from klimb.data.mapping import text_of
from klimb.types import Message, Reply

Row = Mapping[str, Any]
TURN = re.compile(r"\n\n(Human|Assistant):")
XSTEST = {"1_full_compliance": False, "2_full_refusal": True, "3_partial_refusal": True}
ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What is asked, and the answers: the preferred one first; one alone where the row is not a pair.

    `begins`: the turns by which prompts are told apart in a split, where those are not all of the question.
    """

    question: Question
    replies: tuple[Reply, ...]
    begins: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields of a row are what. `prompt` None = it is the part that both answers begin with."""

    prompt: str | None
    chosen: str
    rejected: str
    completion: str
    label: str
    scores: tuple[str, str] | None = None


def pair(row: Row, columns: Columns) -> Answered:
    """`prompt`, `chosen`, `rejected`: texts or messages; messages may begin with the prompt. Raises Unfit."""
    sides = [_get(row, name) for name in (columns.chosen, columns.rejected)]
    talks = any(isinstance(side, list) for side in sides)
    asked = None if columns.prompt is None else _asked(row, columns.prompt, needed=not talks)
    if talks:
        question, texts = _conversations(asked, [_turns(side) for side in sides])
    elif asked is None:
        question, texts = _common(*[_text(side) for side in sides])
    else:
        question, texts = asked, [_text(side) for side in sides]
    scores = [None, None] if columns.scores is None else [_number(_get(row, name)) for name in columns.scores]
    return Answered(question, (Reply(texts[0], True, scores[0]), Reply(texts[1], False, scores[1])))


def labelled(row: Row, columns: Columns) -> Answered:
    """`prompt`, `completion`, `label` (true or false). Raises Unfit."""
    asked, done, label = (_get(row, name) for name in (columns.prompt or "prompt", columns.completion, columns.label))
    if label not in (True, False, 0, 1) or isinstance(label, float):
        raise Unfit(f"the label {show(label)}", "true (desirable) or false")
    turns = _turns(done) if isinstance(done, list) else None
    text = turns[-1].content if turns else _text(done)
    return Answered(_turns(asked) if isinstance(asked, list) else text_of(asked), (Reply(text, bool(label)),))


def dialogue(row: Row, columns: Columns) -> Answered:
    """HH-RLHF: whole dialogues of `Human:` and `Assistant:` turns that part at their last reply. Raises Unfit.

    One dialogue stands in several rows, longer each time: its first turn is on one side of a split only.
    """
    sides = [_dialogue(_text(_get(row, name))) for name in (columns.chosen, columns.rejected)]
    if sides[0][:-1] != sides[1][:-1]:
        raise Unfit("dialogues that differ before their last turn", "take the row out (skip: true does)")
    chosen, rejected = (Reply(side[-1].content, kind) for side, kind in zip(sides, (True, False), strict=True))
    return Answered(sides[0][:-1], (chosen, rejected), sides[0][:1])


def pandalm(row: Row, columns: Columns) -> Answered:
    """PandaLM: `instruction`, `input`, two responses, and what three people said: the majority. Raises Unfit."""
    votes = [int(_get(row, f"annotator{number}")) for number in (1, 2, 3)]
    best = max((1, 2, 0), key=votes.count)
    if best == 0 or votes.count(best) < 2:
        raise Unfit(f"no answer that two of three prefer: {votes}", "take the row out (skip: true does)")
    extra = str(row.get("input") or "")
    question = text_of(_get(row, "instruction")) + (f"\n\n{extra}" if extra.strip() else "")
    texts = [_text(_get(row, f"response{number}")) for number in ((1, 2) if best == 1 else (2, 1))]
    return Answered(question, (Reply(texts[0], True), Reply(texts[1], False)))


def llmbar(row: Row, columns: Columns) -> Answered:
    """LLMBar: `input`, `output_1`, `output_2`, and `label`, the number of the better one. Raises Unfit."""
    label = _get(row, "label")
    if label not in (1, 2) or isinstance(label, bool):
        raise Unfit(f"the label {show(label)}", "1 or 2")
    texts = [_text(_get(row, f"output_{number}")) for number in ((1, 2) if label == 1 else (2, 1))]
    return Answered(text_of(_get(row, "input")), (Reply(texts[0], True), Reply(texts[1], False)))


def xstest(row: Row, columns: Columns) -> Answered:
    """XSTest: `prompt`, `completion`, `final_label`; true is a refusal, whole or in part. Raises Unfit."""
    label = _get(row, "final_label")
    if label not in XSTEST:
        raise Unfit(f"the label {show(label)}", f"one of {', '.join(XSTEST)}")
    return Answered(text_of(_get(row, "prompt")), (Reply(_text(_get(row, "completion")), XSTEST[label]),))


FORMS = {
    "pairs": pair,
    "labelled": labelled,
    "hh": dialogue,
    "pandalm": pandalm,
    "llmbar": llmbar,
    "xstest": xstest,
}
"""How a row is read, by the name of its form."""


def _asked(row: Row, name: str, *, needed: bool) -> Question | None:
    """The prompt in a field of its own; None where there is none and the answers are conversations."""
    try:
        value = _get(row, name)
    except Unfit as error:
        if not needed:
            return None
        cure = f"{error.cure} (data.prompt=...), or data.prompt=null where both answers begin with the prompt"
        raise Unfit(error.found, cure) from None
    if value is None and not needed:
        return None
    return _turns(value) if isinstance(value, list) else text_of(value)


def _conversations(asked: Question | None, sides: list[tuple[Message, ...]]) -> tuple[Question, list[str]]:
    first, second = sides
    shared = 0
    while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
        shared += 1
    if len(first) - shared != 1 or len(second) - shared != 1:
        raise Unfit("conversations that differ before their last message", "the same prompt on both sides")
    if any(side[-1].role != "assistant" for side in sides):
        raise Unfit("an answer that is not the assistant's", 'end with {"role": "assistant", ...}')
    return _joined(asked, first[:shared]), [side[-1].content for side in sides]


def _joined(asked: Question | None, before: tuple[Message, ...]) -> Question:
    """A row's prompt and what its conversations begin with: one of them must be how the other ends."""
    if asked is None:
        if all(turn.role == "system" for turn in before):
            raise Unfit("answers without a prompt", "a prompt, or conversations that begin with it")
        return before
    given = (Message("user", asked),) if isinstance(asked, str) else asked
    if not before:
        return asked
    if before[-1].role == "system" and given[0].role != "system":
        return before + given
    short, long = sorted((given, before), key=len)
    if [_plain(turn) for turn in long[-len(short) :]] != [_plain(turn) for turn in short]:
        raise Unfit("a prompt, and conversations that begin with another", "the same in both, or data.prompt=null")
    return long


def _plain(turn: Message) -> tuple[str, list[str]]:
    """A turn with its spaces made one."""
    return turn.role, turn.content.split()


def _common(chosen: str, rejected: str) -> tuple[str, list[str]]:
    """An implicit prompt: what two texts begin with, up to the last space, so that no word is cut in two."""
    size = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected))
    )
    size = chosen.rfind(" ", 0, size) if " " in chosen[:size] else 0
    if not chosen[:size].strip():
        raise Unfit("no prompt, and answers that begin differently", "name the field with the prompt")
    return chosen[:size], [chosen[size:], rejected[size:]]


def _dialogue(text: str) -> tuple[Message, ...]:
    parts = TURN.split(text)
    turns = tuple(Message(ROLES[who], said.strip()) for who, said in zip(parts[1::2], parts[2::2], strict=True))
    if parts[0].strip() or len(turns) < 2 or turns[0].role != "user":
        raise Unfit(f"no dialogue: {show(text[:40])}", 'turns that begin with "\\n\\nHuman:" and "\\n\\nAssistant:"')
    if turns[-1].role != "assistant":
        raise Unfit("a dialogue that ends with the human's turn", "take the row out (skip: true does)")
    return turns


def _turns(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise Unfit(f"{show(value)} in place of messages", 'a list of {"role": ..., "content": ...}')
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict) or not {"role", "content"} <= set(turn):
            raise Unfit(f"message {number} is {show(turn)}", 'an object {"role": ..., "content": ...}')
    return tuple(Message(str(turn["role"]), _text(turn["content"])) for turn in value)


def _text(value: Any) -> str:
    """A text that may be empty: an answer of nothing but EOS."""
    return value if isinstance(value, str) and not value.strip() else text_of(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unfit(f"the score {show(value)}", "a finite number")
    return float(value)


def _get(row: Row, name: str) -> Any:
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise Unfit(f"no field {name!r}; the row has {show(', '.join(row), 100)}", "name a field that is there")
        value = value[part]
    return value
