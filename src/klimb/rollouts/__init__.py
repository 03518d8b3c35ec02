"""Rollouts on disk: Parquet, one row a completion, in a documented, versioned format (docs/logs.md)."""

from __future__ import annotations

from klimb.rollouts.form import COLUMNS, SCHEMA, VERSION
from klimb.rollouts.reading import read, read_table, tables
from klimb.rollouts.writing import write

__all__ = ["COLUMNS", "SCHEMA", "VERSION", "read", "read_table", "tables", "write"]
