"""The format `klimb.rollouts`: its columns, its versions, and how a file of another version becomes one of this.

The version stands in the schema's metadata as `major.minor`. A file of the same major or an older one is read; columns
that a later minor version added are left alone. Version 1 had no `forking`, `template` or `estimated`, and always knew
what its sampler did; 2.1 brought `age`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from klimb.errors import DataError

FORMAT, VERSION = b"klimb.rollouts", b"2.1"

COLUMNS: tuple[tuple[str, pa.DataType, bool], ...] = (
    ("step", pa.int64(), False),
    ("group", pa.int32(), False),
    ("prompt_id", pa.string(), False),
    ("prompt_tokens", pa.list_(pa.int32()), False),
    ("prompt_text", pa.string(), True),
    ("messages", pa.string(), True),
    ("answer", pa.string(), True),
    ("k", pa.int32(), False),
    ("seed", pa.int64(), False),
    ("tokens", pa.list_(pa.int32()), False),
    ("logps", pa.list_(pa.float32()), False),
    ("entropies", pa.list_(pa.float32()), False),
    ("text", pa.string(), False),
    ("finish", pa.string(), False),
    ("scores", pa.string(), False),
    ("reward", pa.float64(), True),
    ("temperature", pa.float64(), True),
    ("top_p", pa.float64(), True),
    ("top_k", pa.int32(), True),
    ("forking", pa.list_(pa.float64()), True),
    ("version", pa.string(), False),
    ("metadata", pa.string(), False),
    ("template", pa.string(), True),
    ("estimated", pa.string(), True),
    ("age", pa.int32(), True),
)
"""Name, type and whether null is allowed, of each column."""
ADDED = {"forking": 2, "template": 2, "estimated": 2, "age": 3}
"""The first major version whose files all have a column, where it was not the first."""

SCHEMA = pa.schema([pa.field(name, kind, null) for name, kind, null in COLUMNS], metadata={FORMAT: VERSION})
ROW_GROUP = 16_384
"""The most rows of a row group, so that long files are read in parts."""


def major_of(schema: pa.Schema, path: object) -> int:
    """The major version of a file. Raises DataError where it is none of ours, or a later one."""
    known = VERSION.split(b".")[0]
    found = (schema.metadata or {}).get(FORMAT)
    first = (found or b"").split(b".")[0]
    if not first.isdigit() or not 1 <= int(first) <= int(known):
        raise DataError(
            f"{path}: rollouts of format version 1 to {known.decode()}",
            "none" if found is None else f"version {found.decode(errors='replace')}",
            "a file that klimb wrote, or the klimb that wrote it; other logs: klimb logs import",
        )
    return int(first)


def current(table: pa.Table, path: object, first: int = 0) -> pa.Table:
    """The table with the columns of this version, in order. Raises DataError naming the field, and the row of a null.

    `first` is the number of the table's first row in its file.
    """
    made = with_nulls(table, path)
    for row, name in nulls(made, first):
        raise null(path, row, name)
    return made


def with_nulls(table: pa.Table, path: object) -> pa.Table:
    """The table with the columns of this version, in order; a null may stand anywhere. Raises DataError."""
    major = major_of(table.schema, path)
    columns = [_column(table, name, kind, ADDED.get(name, 1) > major, path) for name, kind, _ in COLUMNS]
    schema = pa.schema([pa.field(name, kind, True) for name, kind, _ in COLUMNS], metadata=table.schema.metadata)
    return pa.Table.from_arrays(columns, schema=schema)


def nulls(table: pa.Table, first: int = 0) -> Iterator[tuple[int, str]]:
    """The row and field of each null that may not be one, field by field."""
    for name, _, allowed in COLUMNS:
        column = table.column(name)
        if not allowed and column.null_count:
            yield from ((first + row, name) for row, missing in enumerate(column.is_null().to_pylist()) if missing)


def _column(table: pa.Table, name: str, kind: pa.DataType, may_lack: bool, path: object) -> pa.ChunkedArray:
    if name in table.schema.names:
        if table.schema.field(name).type != kind:
            raise DataError(f"{path}: field {name!r} of type {kind}", str(table.schema.field(name).type), CURE)
        return table.column(name)
    if may_lack:
        return pa.chunked_array([pa.nulls(table.num_rows, kind)])
    raise DataError(f"{path}: field {name!r} of type {kind}", "no such column", CURE)


CURE = "the file that klimb wrote"


def fault(path: object, row: int, name: str, asked: str, found: str, cure: str = CURE) -> DataError:
    """What is wrong with a field of a row; rows count from 0."""
    return DataError(f"{path}, row {row}, field {name!r}: {asked}", found, cure)


def null(path: object, row: int, name: str) -> DataError:
    """A null where the format allows none."""
    return fault(path, row, name, "a value", "null")
