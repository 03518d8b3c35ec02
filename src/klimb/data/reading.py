"""Rows out of a JSON file: one object a line, or one list of objects; plain or gzip; UTF-8, with or without BOM."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from klimb.data.faulty import Faults, show
from klimb.errors import DataError

LONGEST_LINE = 16 << 20
MOST_BYTES = 4 << 30
"""Of a whole file, unpacked: against archives that unpack to more than a disk holds."""
Row = dict[str, Any]

_FOREIGN = {
    b"\xff\xfe": ("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    b"PAR1": ("a Parquet file", "type: parquet"),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"BZh": ("a bzip2 archive", "unpack it, or pack it with gzip"),
    b"\xfd7zXZ": ("an xz archive", "unpack it, or pack it with gzip"),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", "unpack it, or pack it with gzip"),
}


def rows_of(path: Path, faults: Faults) -> Iterator[tuple[int, Row]]:
    """Each row with its number (of the line, or in the list), from 1; what is no row is added to the faults."""
    asked = f"JSON rows in {path}"
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            yield from _parsed(file, path, faults)  # type: ignore[arg-type]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(asked, f"a broken gzip file ({error})", "fetch it again") from error
    except FileNotFoundError as error:
        raise DataError(asked, "no such file", "correct the path; it counts from the working directory") from error
    except (OSError, ValueError) as error:
        raise DataError(asked, str(error), "give a file that can be read") from error


def _parsed(file: IO[bytes], path: Path, faults: Faults) -> Iterator[tuple[int, Row]]:
    head = file.read(64)
    for magic, (what, cure) in _FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"JSON rows in {path}", what, cure)
    file.seek(0)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    yield from (_listed if text.startswith(b"[") else _lined)(file, path, faults)


def _lined(file: IO[bytes], path: Path, faults: Faults) -> Iterator[tuple[int, Row]]:
    number = total = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        total += len(line)
        where = f"{path}, row {number}"
        if total > MOST_BYTES:
            raise DataError(f"JSON rows in {path}", f"more than {MOST_BYTES >> 30} GiB", "split the file")
        if len(line) > LONGEST_LINE:
            faults.add(where, f"a line of more than {LONGEST_LINE >> 20} MiB", "one JSON object a line")
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
                total += len(line)
            continue
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip() and (row := _object(line, where, faults)) is not None:
            yield number, row


def _object(line: bytes, where: str, faults: Faults) -> Row | None:
    try:
        value = _decode(line)
    except _NotJson as error:
        faults.add(where, error.found, error.cure)
        return None
    return _as_row(value, where, faults)


def _as_row(value: Any, where: str, faults: Faults) -> Row | None:
    if isinstance(value, dict):
        return value
    faults.add(where, f"{_kind(value)} {show(value, 30)}", 'an object, such as {"prompt": ..., "answer": ...}')
    return None


def _listed(file: IO[bytes], path: Path, faults: Faults) -> Iterator[tuple[int, Row]]:
    content = file.read(MOST_BYTES // 4 + 1)
    if len(content) > MOST_BYTES // 4:
        raise DataError(f"a JSON list in {path}", "more than 1 GiB", "write one object a line instead")
    try:
        values = _decode(content.removeprefix(b"\xef\xbb\xbf"))
    except _NotJson as error:
        raise DataError(f"a JSON list in {path}", error.found, error.cure) from error
    for number, value in enumerate(values, 1):
        if (row := _as_row(value, f"{path}, row {number}", faults)) is not None:
            yield number, row


class _NotJson(Exception):
    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found)
        self.found, self.cure = found, cure


def _decode(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        bad = content[error.start : error.start + 4]
        raise _NotJson(f"bytes that are not UTF-8 at {error.start + 1}: {bad!r}", "save the file as UTF-8") from error
    except RecursionError as error:
        raise _NotJson("JSON nested too deeply", "flatten it") from error
    except json.JSONDecodeError as error:
        place = f"at character {error.pos + 1}: {error.msg}, before {show(error.doc[error.pos : error.pos + 20])}"
        raise _NotJson(f"no JSON, {place}", "one whole JSON object a line, or one list of objects") from error
    except ValueError as error:
        raise _NotJson(str(error)[:120], "write it differently") from error


def _once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {show(next(n for n in names if names.count(n) > 1))} stands twice in one object")
    return row


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Each row of a CSV file whose first line names the columns, with its number from 1. Raises DataError."""
    csv.field_size_limit(LONGEST_LINE)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, strict=True), 1):
                if None in row or None in row.values():
                    raise DataError(
                        f"rows of {path} with a value for each column", f"row {number} has not", "mend the row"
                    )
                yield number, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"CSV rows in {path}", str(error), "give a UTF-8 file that can be read") from error
