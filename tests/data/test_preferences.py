"""Preference files: every published form, splits by prompt, and faults by row and field."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from klimb.data.base import Problems
from klimb.data.echo_pairs import EchoPairs
from klimb.data.preferences import Preferences, identical, key_of
from klimb.data.replies import Answered
from klimb.errors import DataError
from klimb.types import Message, Reply


def opened(folder: Path, content: list[dict[str, Any]], **settings: Any) -> Problems:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content), "utf-8")
    return Preferences.model_validate({"path": path, "share": 0.3, **settings}).open()


def only(problems: Problems, number: int = 1) -> tuple[Any, tuple[Reply, ...]]:
    sides = [*problems.train, *problems.held_out]
    prompt = next(one for one in sides if one.id.endswith(f":{number}"))
    return [(turn.role, turn.content) for turn in prompt.messages], problems.given[prompt.id]


OTHER = {"prompt": "other", "chosen": "x", "rejected": "y"}
USER = {"role": "user", "content": "q"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [USER], "chosen": [said("good")], "rejected": [said("bad")]},
        {"chosen": [USER, said("good")], "rejected": [USER, said("bad")]},
        {"prompt": "q", "chosen": [USER, said("good")], "rejected": [USER, said("bad")]},
        {"prompt": None, "chosen": [USER, said("good")], "rejected": [USER, said("bad")]},
    ],
)
def test_texts_messages_and_an_implicit_prompt_say_the_same(row: dict[str, Any], tmp_path: Path) -> None:
    asked, replies = only(opened(tmp_path, [row, OTHER]))
    assert asked == [("user", "q")] and replies == (Reply("good", True), Reply("bad", False))


def test_an_implicit_prompt_of_texts_ends_before_a_whole_word(tmp_path: Path) -> None:
    rows = [{"chosen": f"Say {n}: goodness", "rejected": f"Say {n}: goofy"} for n in (1, 2)]
    asked, replies = only(opened(tmp_path, rows, prompt=None))
    assert asked == [("user", "Say 1:")] and [reply.text for reply in replies] == [" goodness", " goofy"]


SYSTEM = {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    ("prompt", "before", "roles"),
    [
        ([SYSTEM, USER], [USER], ["system", "user"]),
        ([USER], [SYSTEM, USER], ["system", "user"]),
        (" q ", [SYSTEM, USER], ["system", "user"]),
        ("q", [SYSTEM], ["system", "user"]),
        ([SYSTEM, USER], [], ["system", "user"]),
    ],
)
def test_of_a_prompt_and_what_conversations_begin_with_nothing_is_lost(
    prompt: Any, before: list[Any], roles: list[str], tmp_path: Path
) -> None:
    row = {"prompt": prompt, "chosen": [*before, said("good")], "rejected": [*before, said("bad")]}
    asked, _ = only(opened(tmp_path, [row, OTHER]))
    assert [role for role, _ in asked] == roles and asked[-1] == ("user", "q")


def test_a_prompt_may_lie_deeper_and_the_wrong_name_of_its_field_invents_none(tmp_path: Path) -> None:
    rows = [{"meta": {"q": f"p{n}"}, "chosen": "Sure, x", "rejected": "Sure, y"} for n in (1, 2)]
    asked, replies = only(opened(tmp_path, rows, prompt="meta.q"))
    assert asked == [("user", "p1")] and replies[0].text == "Sure, x"
    with pytest.raises(DataError, match=r"no field 'prompt'(?s:.*)data\.prompt=null where both answers begin"):
        opened(tmp_path, rows)


def test_the_published_forms(tmp_path: Path) -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    hh = [
        {"chosen": start + " yes", "rejected": start},
        {"chosen": "\n\nHuman: z\n\nAssistant: 1"} | {"rejected": "\n\nHuman: z\n\nAssistant: 2"},
    ]
    asked, replies = only(opened(tmp_path, hh, rows="hh"))
    assert asked == [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert replies == (Reply("yes", True), Reply("", False))
    votes = {"annotator1": 2, "annotator2": "2", "annotator3": 1}
    panda = [{"instruction": f"do {n}", "input": "it", "response1": "A", "response2": "B", **votes} for n in (1, 2)]
    asked, replies = only(opened(tmp_path, panda, rows="pandalm"))
    assert asked == [("user", "do 1\n\nit")] and [reply.text for reply in replies] == ["B", "A"]
    bar = [{"input": f"i{n}", "output_1": "A", "output_2": "B", "label": n} for n in (1, 2)]
    assert [reply.text for reply in only(opened(tmp_path, bar, rows="llmbar"), 2)[1]] == ["B", "A"]
    free = [{"prompt": f"p{n}", "completion": "A", "label": n == 1} for n in (1, 2)]
    assert only(opened(tmp_path, free, rows="labelled"), 2)[1] == (Reply("A", False),)
    scored = OTHER | {"metadata": {"w": 9.0, "l": 7}}
    given = only(opened(tmp_path, [scored, scored | {"prompt": "q"}], scores=("metadata.w", "metadata.l")))[1]
    assert [reply.score for reply in given] == [9.0, 7.0]


def test_one_dialogue_at_two_lengths_is_on_one_side_of_a_split(tmp_path: Path) -> None:
    starts = [f"\n\nHuman: {n}\n\nAssistant:" for n in range(20)]
    starts += [start.replace(":", ":  ", 1) + " on\n\nHuman: and\n\nAssistant:" for start in starts]
    rows = [{"chosen": start + " a", "rejected": start + " b"} for start in starts]
    made = opened(tmp_path, rows, rows="hh")
    first = [{one.messages[0].content for one in side} for side in (made.train, made.held_out)]
    assert not first[0] & first[1] and (len(first[1]), len(made.held_out), len(made.train)) == (6, 12, 28)


def test_files_may_be_packed_or_parquet_and_a_prompt_is_on_one_side_only(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{number // 2} ", "chosen": f"a{number}", "rejected": "b"} for number in range(40)]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    both = [Preferences(path=tmp_path / name).open() for name in ("rows.jsonl.gz", "rows.parquet")]
    assert [one.id for one in both[0].train] == [one.id for one in both[1].train]
    asked = [{one.messages for one in side} for side in (both[0].train, both[0].held_out)]
    assert len(both[0].train) == 36 and len(both[0].held_out) == 4 and not asked[0] & asked[1]
    apart = Preferences(path=tmp_path / "rows.parquet", held_out=tmp_path / "rows.jsonl.gz", limit=2)
    with pytest.raises(DataError):
        Preferences(path=tmp_path / "broken.parquet").open()
    assert len(apart.open().held_out) == 2 and not apart.open().train


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": "q", "chosen": "x"}, "no field 'rejected'"),
        ({"prompt": 3.5, "chosen": None, "rejected": "y"}, "null"),
        ({"chosen": "one", "rejected": "one more"}, "no field 'prompt'"),
        ({"prompt": None, "chosen": "one", "rejected": "one more"}, "null"),
        ({"prompt": "z", "chosen": [USER, said("x")], "rejected": [USER, said("y")]}, "begin with another"),
        ({"chosen": [SYSTEM, said("x")], "rejected": [SYSTEM, said("y")]}, "answers without a prompt"),
        ({"chosen": [said("x")], "rejected": [said("y")]}, "answers without a prompt"),
        ({"chosen": [USER, said("x")], "rejected": [said("z"), said("y")]}, "differ before their last"),
        ({"chosen": [USER, USER], "rejected": [USER, said("y")]}, "not the assistant's"),
        ({"prompt": "q", "chosen": [3], "rejected": [said("y")]}, "message 1 is 3"),
        ({"prompt": "q", "chosen": "x", "rejected": []}, "in place of messages"),
    ],
)
def test_a_fault_names_its_row(row: dict[str, Any], found: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2") as caught:
        opened(tmp_path, [OTHER, row])
    assert found in caught.value.line()


@pytest.mark.parametrize(
    ("form", "row", "found"),
    [
        ("hh", {"chosen": "hello", "rejected": "hello"}, "no dialogue"),
        ("hh", {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "rejected": "x"}, "human's turn"),
        ("hh", {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: z\n\nAssistant: b"}, "differ before"),
        ("pandalm", {"annotator1": 1, "annotator2": 2, "annotator3": 0}, "two of three"),
        ("llmbar", {"label": 3}, "label 3"),
        ("labelled", {"prompt": "q", "completion": "a", "label": "yes"}, "label 'yes'"),
    ],
)
def test_a_published_form_is_checked_too(form: Any, row: dict[str, Any], found: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        opened(tmp_path, [row], rows=form)
    assert found in caught.value.line() and "row 1" in caught.value.line()


def test_what_cannot_be_used_may_be_left_out_unless_nothing_remains(tmp_path: Path) -> None:
    rows = [OTHER, {"prompt": "q"}, OTHER | {"prompt": "third"}]
    assert len(opened(tmp_path, rows, skip=True).train) == 1
    with pytest.raises(DataError, match="none that can be used"):
        opened(tmp_path, [{"prompt": "q"}], skip=True)
    with pytest.raises(DataError, match="only one"):
        opened(tmp_path, [OTHER, OTHER])
    with pytest.raises(DataError, match="no prompt, and answers that begin differently"):
        opened(tmp_path, [{"chosen": "one", "rejected": "two"}], prompt=None)
    with pytest.raises(DataError, match="the score"):
        opened(tmp_path, [OTHER | {"s": "high"}], scores=("s", "s"))


def test_the_fingerprint_knows_the_answers(tmp_path: Path) -> None:
    rows = [OTHER, OTHER | {"prompt": "q"}]
    first = opened(tmp_path, rows).fingerprint()
    assert first == opened(tmp_path, rows).fingerprint()
    assert first != opened(tmp_path, [OTHER, OTHER | {"prompt": "q", "chosen": "z"}]).fingerprint()


def test_pairs_of_digits_prefer_the_right_one() -> None:
    made = EchoPairs(digits=4, letters=2, train=64).open()
    for prompt in (*made.train, *made.held_out):
        right, wrong = made.given[prompt.id]
        assert right == Reply(str(prompt.answer), True) and wrong.text != right.text and not wrong.chosen
    assert EchoPairs(digits=4, letters=2, train=64).open().given == made.given


def test_a_key_makes_spaces_one_and_equal_answers_are_seen() -> None:
    pair = (Reply("a", True), Reply("a", False))
    assert key_of(Answered("a  b", pair)) == key_of(Answered((Message("user", "a b"),), pair))
    assert identical(pair) and not identical(pair[:1])
