"""Rollouts on disk: Parquet, one row a completion, in a documented, versioned format (docs/logs.md)."""

from __future__ import annotations

from klimb.rollouts.form import COLUMNS, SCHEMA, VERSION
from klimb.rollouts.reading import files_of, from_bytes, read, read_table, tables
from klimb.rollouts.writing import to_bytes, write

__all__ = ["COLUMNS", "SCHEMA", "VERSION", "files_of", "from_bytes", "read", "read_table", "tables", "to_bytes"]
__all__ += ["write"]
