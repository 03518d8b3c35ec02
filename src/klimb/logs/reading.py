"""The rows of a log file: JSON lines or a JSON list (plain or gzip), or Parquet. What is no row becomes a note."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from klimb.data.faulty import Faults
from klimb.data.reading import rows_of
from klimb.errors import DataError
from klimb.logs.rules import Note
from klimb.rollouts.form import FORMAT

_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


@dataclass(slots=True)
class Rows:
    """Rows with their numbers, from 1, and notes of what was none."""

    rows: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


class _Notes(Faults):
    """Faults of reading as notes."""

    def __init__(self, notes: list[Note]) -> None:
        super().__init__()
        self.notes = notes

    def add(self, where: str, found: str, cure: str) -> None:
        row = where.rpartition(", row ")[2]
        self.notes.append(Note.of(int(row), "", "not-a-row", found))


def read_rows(path: Path) -> Rows:
    """Every row of a log. Raises DataError where the file cannot be read as one at all."""
    head = _head(path)
    if head.startswith(_PICKLES):
        raise DataError(
            f"a log in {path}",
            "a pickle (or what torch.save wrote), which may run code when it is read",
            "write its samples as JSON lines where it was made; docs/logs.md has the line",
        )
    found = Rows()
    rows = _parquet(path) if head == b"PAR1" else rows_of(path, _Notes(found.notes))
    found.rows.extend(rows)
    return found


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(f"a log in {path}", found, "correct the path; it counts from the working directory") from error


def _parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            if FORMAT in (file.schema_arrow.metadata or {}):
                raise DataError(f"a log to import in {path}", "rollouts of klimb, which need none", "klimb logs check")
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ValueError, pa.ArrowException) as error:
        found = f"{str(error).splitlines()[0][:120]}, after row {number}" if str(error) else type(error).__name__
        raise DataError(f"a log in {path}", found, "a whole Parquet file") from error
