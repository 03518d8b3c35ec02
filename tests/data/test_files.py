"""What good data files become: prompts with stable ids, answers, and no prompt on both sides."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from klimb.data.gsm8k import Gsm8k
from klimb.data.hub import Hub
from klimb.data.jsonl import Jsonl
from klimb.data.mapping import text_of
from klimb.data.parquet import Parquet
from klimb.data.svamp import Svamp
from klimb.errors import DataError
from klimb.types import Message, Prompt

ROWS = [{"prompt": f"What is {n} + 1?", "answer": n + 1, "level": n % 3} for n in range(40)]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_gsm8k_runs_as_it_is(shared_data: Path) -> None:
    folder = shared_data / "gsm8k"
    problems = Gsm8k(path=folder / "train.jsonl", held_out=folder / "test.jsonl").open()
    assert (len(problems.train), len(problems.held_out)) == (7473, 1319)
    assert problems.train[0].answer == "72"
    assert problems.held_out[0].answer == "18"
    assert problems.train[0].id == "train:1"
    assert problems.train[0].messages[0].content.startswith("Natalia sold clips to 48")
    assert [
        p.id for p in (*problems.train, *problems.held_out) if not set(p.answer or "") <= set("0123456789,.-")
    ] == []


def test_svamp_runs_as_it_is_and_is_split_by_prompt(shared_data: Path) -> None:
    problems = Svamp(path=shared_data / "svamp" / "SVAMP.json").open()
    assert (len(problems.train) + len(problems.held_out), len(problems.held_out)) == (1000, 100)
    first = next(p for p in (*problems.train, *problems.held_out) if p.id == "chal-1")
    assert first.answer == "51"
    assert first.messages[0].content.endswith("on each pack How much do you have to pay to buy each pack?")
    assert not {p.messages for p in problems.train} & {p.messages for p in problems.held_out}


@pytest.mark.parametrize(
    "content",
    [
        lines(ROWS),
        b"\xef\xbb\xbf" + lines(ROWS),
        lines(ROWS).replace(b"\n", b"\r\n"),
        lines(ROWS).replace(b"\n", b"\n\n  \n"),
        lines(ROWS).rstrip(b"\n"),
        json.dumps(ROWS, indent=1).encode(),
        b" \n" + json.dumps(ROWS).encode(),
        gzip.compress(lines(ROWS)),
        gzip.compress(json.dumps(ROWS).encode()),
    ],
    ids=["lines", "BOM", "CRLF", "blank lines", "no last newline", "list", "list after spaces", "gzip", "gzip list"],
)
def test_the_same_rows_are_read_from_every_kind_of_json_file(content: bytes, tmp_path: Path) -> None:
    problems = Jsonl(path=write(tmp_path / "rows.json", content), share=0.25).open()
    asked = {p.messages[0].content: p.answer for p in (*problems.train, *problems.held_out)}
    assert asked == {row["prompt"]: str(row["answer"]) for row in ROWS}
    assert len(problems.held_out) == 10


def test_parquet_gives_the_same_prompts_as_json(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", lines(ROWS))
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet", row_group_size=7)
    one = Jsonl(path=tmp_path / "rows.jsonl", columns=("level",)).open()
    other = Parquet(path=tmp_path / "rows.parquet", columns=("level",)).open()
    assert one == other
    assert one.fingerprint() == other.fingerprint()
    assert {p.metadata["level"] for p in one.train} == {0, 1, 2}


def test_a_hub_set_gives_the_same_prompts_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*words: Any, **more: Any) -> list[dict[str, Any]]:
        asked.append((words, more))
        return ROWS

    monkeypatch.setitem(__import__("sys").modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    hub = Hub(repository="someone/sums", subset="easy", revision="abc").open()
    json_rows = Jsonl(path=write(tmp_path / "rows.jsonl", lines(ROWS))).open()
    assert [(p.messages, p.answer) for p in hub.train] == [(p.messages, p.answer) for p in json_rows.train]
    assert asked == [(("someone/sums", "easy"), {"split": "train", "revision": "abc"})]


def test_a_failing_hub_is_a_data_error_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(__import__("sys").modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(DataError, match="ConnectionError: no route to host"):
        Hub(repository="someone/sums").open()


def test_rows_with_one_prompt_stand_on_one_side(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n % 20}" + " " * (n // 20), "answer": n} for n in range(100)]
    problems = Jsonl(path=write(tmp_path / "d.jsonl", lines(rows)), share=0.3).open()
    train, held = ({p.messages[0].content.strip() for p in side} for side in (problems.train, problems.held_out))
    assert not train & held
    assert (len(train), len(held), len(problems.held_out)) == (14, 6, 30)


def test_the_split_depends_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", lines(ROWS))
    again = write(tmp_path / "e.jsonl", lines(ROWS[::-1]))

    def held(file: Path, seed: int) -> set[str]:
        return {p.messages[0].content for p in Jsonl(path=file, seed=seed).open().held_out}

    assert held(path, 0) == held(again, 0)
    assert held(path, 0) != held(path, 1)


def test_a_training_prompt_that_is_held_out_is_refused_or_dropped(tmp_path: Path) -> None:
    train, test = write(tmp_path / "a.jsonl", lines(ROWS[:30])), write(tmp_path / "b.jsonl", lines(ROWS[28:]))
    with pytest.raises(DataError, match=r"2 that are: .*a\.jsonl, row 29 .*b\.jsonl, row 1.*overlap: drop"):
        Jsonl(path=train, held_out=test).open()
    problems = Jsonl(path=train, held_out=test, overlap="drop").open()
    assert (len(problems.train), len(problems.held_out)) == (28, 12)


def test_the_fingerprint_changes_with_any_content(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    before = Jsonl(path=write(tmp_path / "d.jsonl", lines(rows))).open().fingerprint()
    assert before == Jsonl(path=write(tmp_path / "d.jsonl", lines(rows))).open().fingerprint()
    rows[17]["answer"] = 99
    assert before != Jsonl(path=write(tmp_path / "d.jsonl", lines(rows))).open().fingerprint()
    assert before != Jsonl(path=write(tmp_path / "d.jsonl", lines(ROWS)), form="text").open().fingerprint()


def test_solved_examples_come_first_and_are_not_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", lines(ROWS))
    problems = Jsonl(path=path, form="text", frame="Q: {question}\nA:", shots=2).open()
    shown = problems.held_out[0].text or ""
    assert shown.count("Q: ") == 3
    assert shown.endswith("\nA:")
    assert len(problems.train) == 34
    examples = [line for line in shown.split("\n") if line.startswith("Q: ")][:2]
    assert not [p.id for p in problems.train if (p.text or "").split("\n")[-2] in examples]


def test_examples_in_a_chat_are_turns(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", lines(ROWS))
    prompt = Jsonl(path=path, shots=1, system="Be brief.").open().train[0]
    assert [m.role for m in prompt.messages] == ["system", "user", "assistant", "user"]
    assert prompt.messages[0].content == "Be brief."


def test_a_conversation_is_taken_as_it_is(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    rows = [{"prompt": turns, "answer": "1"}, {"prompt": turns[1:], "answer": "2"}]
    problems = Jsonl(path=write(tmp_path / "d.jsonl", lines(rows)), system="other", share=0.5).open()
    assert {p.messages for p in (*problems.train, *problems.held_out)} == {
        (Message("system", "s"), Message("user", "u")),
        (Message("system", "other"), Message("user", "u")),
    }


def test_limit_reads_that_many_rows(tmp_path: Path) -> None:
    problems = Jsonl(path=write(tmp_path / "d.jsonl", lines(ROWS) + b"broken\n"), limit=10).open()
    assert len(problems.train) + len(problems.held_out) == 10


def test_data_without_answers_open_when_none_are_wanted(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    assert Jsonl(path=write(tmp_path / "d.jsonl", lines(rows)), answer=None).open().train[0].answer is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (51.0, "51"),
        (-3.0, "-3"),
        (0.5, "0.5"),
        (7, "7"),
        (-0.0, "0"),
        (1e300, "1e+300"),
        ("\u202eabc", "\u202eabc"),
    ],
)
def test_values_become_texts_by_the_written_rule(value: Any, text: str) -> None:
    assert text_of(value) == text


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.mktemp("any") / "d.jsonl", b'{"prompt": "a", "answer": "b"}\n' + content)
    opened: list[Prompt] = []
    with contextlib.suppress(DataError):
        opened += Jsonl(path=path).open().train
    assert all(prompt.messages and prompt.answer for prompt in opened)
