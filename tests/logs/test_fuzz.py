"""Every place of a row of each format with every kind of JSON value in it: no traceback, and no change in silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from klimb import rollouts
from klimb.logs.checking import check
from klimb.logs.importing import import_log
from klimb.logs.rules import REFUSED, RULES
from klimb.policy.policy import Policy
from tests.logs.test_import import rows_of

VALUES: dict[str, Any] = {
    "null": None, "true": True, "zero": 0, "minus": -1, "three": 3, "huge": 10**400, "half": 0.5, "low": -1e300,
    "nan": float("nan"), "infinite": float("inf"), "empty": "", "word": "word", "lines": "a\nb", "surrogate": "\ud83d",
    "id": "token_id:3", "square": "token_id:\u00b2", "none": [], "list": [0], "texts": ["x"], "nested": [[{}]],
    "object": {"a": [1]},
}  # fmt: skip
TEXTS = "word lines id square"
NUMBERS = "true zero minus three half low"
LABELS = f"null zero minus three huge half low empty {TEXTS}"
FITS: dict[str, dict[str, str]] = {
    "chat": {
        "model": LABELS, "temperature": "three half", "top_p": "half", "top_k": "zero minus three", "thumb": NUMBERS,
        "messages.0.content": TEXTS, "messages.1.content": TEXTS, "messages.2.content": "",
        "logprobs": "list", "logprobs.0": "zero minus", "finish_reason": "null",
    },
    "trl": {"step": "null zero three", "prompt": TEXTS, "completion": TEXTS, "correct": NUMBERS, "short": NUMBERS},
    "verl": {"input": TEXTS, "output": TEXTS, "gts": LABELS, "score": NUMBERS, "step": "null zero three"},
    "slime": {
        "prompt": TEXTS, "label": LABELS, "reward": NUMBERS, "weight_versions.0": LABELS, "loss_mask": "null",
        "loss_mask.0": "true", "loss_mask.1": "true", "rollout_log_probs": "null none", "status": "null",
        "rollout_log_probs.0": "zero minus", "rollout_log_probs.1": "zero minus", "tokens": "null none",
        "tokens.0": "zero three", "tokens.1": "zero three", "tokens.2": "zero three", "response_length": "",
    },
    "openai": {
        "request.messages": TEXTS, "request.messages.0.content": TEXTS, "response.model": LABELS,
        "response.choices.0.score": NUMBERS, "response.choices.0.finish_reason": "null",
        "response.choices.0.logprobs": "list", "response.choices.0.logprobs.tokens": "",
        "response.choices.0.logprobs.token_logprobs": "list",
        "response.choices.0.logprobs.token_logprobs.0": "zero minus",
    },
}  # fmt: skip
"""The values that stand for something at a place that is read: all others must be said."""
UNREAD = (
    "id",
    "advantage",
    "custom_id",
    "acc",
    "group_index",
    "index",
    "metadata",
    "weight_versions",
    "request.model",
    "request.n",
)
UNREAD += ("response.id", "response.object", "response.choices.0.index", "response.choices.0.message.role")


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from places(inner, (*at, key))


def put(row: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = json.loads(json.dumps(row))
    inside = made
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = value
    return dict(made)


def good(root: Path, base: str) -> dict[str, Any]:
    row = rows_of(root, base)[0]
    if base == "chat":
        row |= {"logprobs": [-0.1], "top_p": 1.0, "top_k": 0, "finish_reason": "stop"}
    if base == "openai":
        row["response"]["choices"] = row["response"]["choices"][:1]
        row["response"]["choices"][0]["logprobs"] = {"tokens": ["5"], "token_logprobs": [-0.25]}
    return row


@pytest.mark.parametrize("base", FITS)
def test_whatever_stands_at_a_place_is_used_refused_or_repaired_and_said(
    root: Path, tmp_path: Path, tiny: Callable[[str], Policy], base: str
) -> None:
    row = good(root, base)
    cases = [(".".join(map(str, at)), name, put(row, at, x)) for at in places(row) for name, x in VALUES.items()]
    (tmp_path / "log").write_text("".join(json.dumps(one) + "\n" for one in (row, *(case[2] for case in cases))))
    (tmp_path / "m.yaml").write_text("base: slime\ntemperature: 1.0\ntop_p: 1.0\ntop_k: 0\n")
    mapping = str(tmp_path / "m.yaml") if base == "slime" else base
    found = import_log(tmp_path / "log", mapping, tmp_path / "out", tiny, tokenizer="tiny")
    always = {note.rule for note in found.notes if note.row == 1}
    said = {note.row for note in found.notes if note.rule not in always}
    silent = {(case[0], case[1]) for number, case in enumerate(cases, 2) if number not in said}
    fits = {(place, name) for place, names in FITS[base].items() for name in names.split()}
    assert {one for one in silent if one[0] not in UNREAD} == fits
    refused = [note.row for note in found.notes if RULES[note.rule].action == REFUSED]
    assert len(set(refused)) == len(refused), "a completion is refused once"
    assert found.completions + len(refused) == len(cases) + 1
    assert check(tmp_path / "out").count == 0
    assert sum(len(group.rollouts) for group in rollouts.read(tmp_path / "out")) == found.completions
    assert all(note.found.isprintable() for note in found.notes)
