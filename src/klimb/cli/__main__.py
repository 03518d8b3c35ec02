"""`python -m klimb.cli`, for places where scripts are not on the path."""

from __future__ import annotations

from klimb.cli import main

main()
