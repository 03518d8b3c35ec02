"""Bad data files: what stands in them, the settings that read them, and words that the message must hold."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

GOOD = b'{"prompt": "1 + 1 =", "answer": "2"}\n{"prompt": "1 + 2 =", "answer": "3"}\n'


@dataclass(frozen=True)
class Bad:
    name: str
    content: bytes
    words: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def row(**fields: Any) -> bytes:
    return GOOD + json.dumps(fields).encode() + b"\n"


def third(raw: bytes) -> bytes:
    return GOOD + raw + b"\n"


def chat(*turns: Any) -> bytes:
    return row(prompt=list(turns), answer="1")


def turn(role: Any, content: Any = "hello") -> dict[str, Any]:
    return {"role": role, "content": content}


R3, PROMPT, ANSWER = "row 3", "field 'prompt'", "field 'answer'"
HALF = "surrogate pair at "
TWICE = b'{"prompt":"a","answer":1,"id":7}\n{"prompt":"b","answer":2,"id":7}\n'
FOR_EVER = {"answer_pattern": "(?:(?:a|a)*)*b|^[0-9]$"}
MARK = {"answer_pattern": "#### (.*)|([0-9])"}
PACKED = gzip.compress(GOOD * 50)
DEEP = b'{"prompt": "a", "answer": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

WHOLE = [
    Bad("nothing in it", b"", ("none", "at least one row")),
    Bad("only blank lines", b"\n\n  \n", ("none",)),
    Bad("only a BOM", b"\xef\xbb\xbf", ("none",)),
    Bad("an empty list", b"[]", ("none",)),
    Bad("a list that does not end", b'[{"prompt": "a", "answer": "b"}', ("no JSON",)),
    Bad("a list with a wrong byte", b'[{"prompt": "\xff", "answer": "b"}]', ("not UTF-8",)),
    Bad(
        "UTF-16 with a little-endian mark",
        GOOD.decode().encode("utf-16-le").join([b"\xff\xfe", b""]),
        ("UTF-16", "iconv"),
    ),
    Bad("UTF-16 with a big-endian mark", b"\xfe\xff" + GOOD.decode().encode("utf-16-be"), ("UTF-16", "iconv")),
    Bad("a Parquet file by another name", b"PAR1" + b"\0" * 60, ("Parquet", "type: parquet")),
    Bad("a zip archive", b"PK\x03\x04" + b"\0" * 60, ("zip", "unpack")),
    Bad("a bzip2 archive", b"BZh91AY&SY", ("bzip2",)),
    Bad("an xz archive", b"\xfd7zXZ\0\0", ("xz",)),
    Bad("a zstd archive", b"\x28\xb5\x2f\xfd\0\0", ("zstd",)),
    Bad("a gzip file cut in half", PACKED[: len(PACKED) // 2], ("broken gzip",)),
    Bad("a gzip file with a flipped byte", PACKED[:-6] + b"\0" + PACKED[-5:], ("broken gzip",)),
    Bad("a gzip header and no more", b"\x1f\x8b", ("broken gzip",)),
    Bad("one prompt only, and nothing held out", GOOD.splitlines(keepends=True)[0], ("only one", "at least two")),
    Bad("the same prompt in two rows, and nothing held out", GOOD.splitlines(keepends=True)[0] * 2, ("only one",)),
    Bad("too few rows for the solved examples", GOOD, ("5 solved examples",), {"shots": 5}),
]

ROWS = [
    Bad("Latin-1", third('{"prompt": "café", "answer": "1"}'.encode("latin-1")), (R3, "not UTF-8")),
    Bad("a BOM in the middle", third(b'\xef\xbb\xbf{"prompt": "a", "answer": "1"}'), (R3, "no JSON")),
    Bad("half a line of JSON", third(b'{"prompt": "a", "ans'), (R3, "no JSON", "one whole JSON object a line")),
    Bad("single quotes", third(b"{'prompt': 'a', 'answer': 'b'}"), (R3, "no JSON")),
    Bad("a comma too many", third(b'{"prompt": "a", "answer": "b",}'), (R3, "no JSON")),
    Bad("two objects on one line", third(b'{"prompt": "a", "answer": "b"} {"prompt": "c"}'), (R3, "Extra data")),
    Bad("CSV", third(b"a,b"), (R3, "no JSON")),
    Bad("a raw tab in a string", third(b'{"prompt": "a\tb", "answer": "1"}'), (R3, "no JSON")),
    Bad("raw NUL bytes", third(b"\0\0\0"), (R3, "no JSON")),
    Bad("a list for a row", third(b'["a", "b"]'), (R3, "a list", "an object")),
    Bad("a text for a row", third(b'"a"'), (R3, "a text")),
    Bad("a number for a row", third(b"17"), (R3, "a number")),
    Bad("null for a row", third(b"null"), (R3, "null")),
    Bad("true for a row", third(b"true"), (R3, "a truth value")),
    Bad("nested a hundred thousand deep", third(DEEP), (R3, "nested too deeply")),
    Bad("a name twice", third(b'{"prompt": "a", "prompt": "b", "answer": "1"}'), (R3, "'prompt'", "twice")),
    Bad("an integer of 5,000 digits", third(b'{"prompt": "a", "answer": ' + b"9" * 5000 + b"}"), (R3, "4300")),
    Bad("a line of 17 MiB", third(b'{"prompt": "' + b"a" * (17 << 20) + b'"}'), (R3, "16 MiB")),
    Bad("no prompt", row(answer="1"), (R3, PROMPT, "no such field")),
    Bad("a misspelt prompt", row(promt="a", answer="1"), (R3, PROMPT, "the field 'promt'?")),
    Bad("no answer", row(prompt="a"), (R3, ANSWER, "no such field")),
    Bad("an empty row", row(), ("2 faults", R3, PROMPT, ANSWER, "nothing")),
    Bad("null for a prompt", row(prompt=None, answer="1"), (R3, PROMPT, "null")),
    Bad("null for an answer", row(prompt="a", answer=None), (R3, ANSWER, "null")),
    Bad("a number for a prompt", row(prompt=5, answer="1"), (R3, PROMPT, "the number 5")),
    Bad("true for a prompt", row(prompt=True, answer="1"), (R3, PROMPT, "truth value true")),
    Bad("true for an answer", row(prompt="a", answer=True), (R3, ANSWER, "truth value true", "yes")),
    Bad("an object for a prompt", row(prompt={"a": 1}, answer="1"), (R3, PROMPT, "an object")),
    Bad("an object for an answer", row(prompt="a", answer={"a": 1}), (R3, ANSWER, "an object")),
    Bad("a list for an answer", row(prompt="a", answer=[1]), (R3, ANSWER, "a list")),
    Bad("NaN for an answer", row(prompt="a", answer=float("nan")), (R3, ANSWER, "nan", "finite")),
    Bad("infinity for an answer", row(prompt="a", answer=float("inf")), (R3, ANSWER, "inf", "finite")),
    Bad("1e999 for an answer", third(b'{"prompt": "a", "answer": 1e999}'), (R3, ANSWER, "inf", "finite")),
    Bad("an empty prompt", row(prompt="", answer="1"), (R3, PROMPT, "an empty text")),
    Bad("a prompt of spaces", row(prompt=" \n\t", answer="1"), (R3, PROMPT, "only spaces")),
    Bad("a prompt of no-break spaces", row(prompt="\u00a0\u2003", answer="1"), (R3, PROMPT, "only spaces")),
    Bad("an empty answer", row(prompt="a", answer=""), (R3, ANSWER, "an empty text")),
    Bad("NUL in a prompt", row(prompt="a\0b", answer="1"), (R3, PROMPT, "NUL character at 2")),
    Bad("NUL in an answer", row(prompt="a", answer="\0"), (R3, ANSWER, "NUL character at 1")),
    Bad("half a surrogate pair in a prompt", third(b'{"prompt": "a\\ud800", "answer": "1"}'), (R3, PROMPT, HALF + "2")),
    Bad("half a surrogate pair in an answer", third(b'{"prompt": "a", "answer": "\\udfff"}'), (R3, ANSWER, HALF + "1")),
    Bad("a prompt of two million characters", row(prompt="a" * 2_000_000, answer="1"), (R3, PROMPT, "at most 1000000")),
    Bad("an empty conversation", chat(), (R3, PROMPT, "empty list")),
    Bad("a conversation of texts", chat("hello"), (R3, PROMPT, "message 1", "role")),
    Bad("a message without a role", chat({"content": "a"}), (R3, PROMPT, "message 1")),
    Bad("a message with tool calls", chat(turn("user") | {"tool_calls": []}), (R3, PROMPT, "message 1")),
    Bad("an unknown role", chat(turn("human")), (R3, PROMPT, "'human'")),
    Bad("a role that is a list", chat(turn(["user"])), (R3, PROMPT, "role")),
    Bad("a system message in the middle", chat(turn("user"), turn("system"), turn("user")), (R3, PROMPT, "message 2")),
    Bad("a conversation ending with the assistant", chat(turn("user"), turn("assistant")), (R3, PROMPT, "ends with")),
    Bad("a message that is null", chat(turn("user", None)), (R3, PROMPT, "null")),
    Bad("a message that is empty", chat(turn("user", "")), (R3, PROMPT, "an empty text")),
    Bad("no match of the answer's pattern", row(prompt="a", answer="no mark"), (R3, ANSWER, "#### "), MARK),
    Bad("a pattern that takes for ever", row(prompt="a", answer="a" * 40 + "!"), (R3, ANSWER, "a second"), FOR_EVER),
    Bad("a template with a field that is not there", GOOD, ("row 1", "no such field"), {"template": "{prompt} {Body}"}),
    Bad("a column that is not there", GOOD, ("row 1", "field 'level'", "no such field"), {"columns": ("level",)}),
    Bad("an id that is not there", GOOD, ("row 1", "field 'key'", "no such field"), {"id": "key"}),
    Bad("an id that comes twice", TWICE, ("row 2", "the id '7' of", "row 1"), {"id": "id"}),
    Bad("an id that is null", b'{"prompt":"a","answer":1,"id":null}\n' + GOOD, ("row 1", "null"), {"id": "id"}),
]  # fmt: skip
