"""Completions of any file: JSON rows with `prompt` and `completion`, as groups that a model can score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.data.faulty import Faults
from klimb.data.mapping import Fields, Item
from klimb.data.reading import rows_of
from klimb.errors import DataError
from klimb.types import Completion, Finish, Group, Message, Prompt, Rollout

if TYPE_CHECKING:
    from klimb.policy.policy import Policy

FIELDS = Fields("prompt", None, "completion", None, None, ())


def items_of(path: Path) -> list[Item]:
    """The rows of the file; needs no model. Raises DataError naming row and field of all that is wrong."""
    faults, found = Faults(), []
    for number, row in rows_of(path, faults):
        item = FIELDS.item(row, f"{path}, row {number}", str(number), faults)
        if item is not None:
            found.append(item)
    faults.check()
    if not found:
        raise DataError(f"rows in {path}", "none", 'lines such as {"prompt": "2 + 3 =", "completion": " 5"}')
    return found


def groups_of(items: list[Item], policy: Policy) -> list[Group]:
    """The rows by prompt, in order of first appearance, as tokens. Raises DataError: too long, no token."""
    faults, groups = Faults(), dict[str, Group]()
    for item in items:
        text = item.answer or ""
        tokens = tuple(policy.tokenizer(text, add_special_tokens=False)["input_ids"])
        if not tokens:
            faults.add(f"{item.where}, field 'completion'", "a text without tokens", "fill it, or take the row out")
            continue
        try:
            prompt = policy.render(_prompt(item), len(tokens))
        except DataError as error:
            faults.add(f"{item.where}, field 'prompt'", f"{error.asked}: {error.found}", error.cure)
            continue
        group = groups.setdefault(item.key, Group(prompt, ()))
        one = Rollout(Completion(tokens, (), text, Finish.EOS), len(group.rollouts), 0)
        groups[item.key] = replace(group, rollouts=(*group.rollouts, one))
    faults.check()
    return list(groups.values())


def _prompt(item: Item) -> Prompt:
    """A text stays a text: it is continued as it is, without a chat template."""
    if isinstance(item.question, str):
        return Prompt(item.name, text=item.question)
    return Prompt(item.name, messages=tuple(Message(turn.role, turn.content) for turn in item.question))
