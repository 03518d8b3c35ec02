"""The program of the source `grammar`. Loaded by its path; imports nothing of klimb."""

from __future__ import annotations

from harper import Linter

LINTER = Linter()


def score(completion: str) -> float:
    """Minus the findings per word, at most 1."""
    words = len(completion.split())
    return -min(1.0, len(LINTER.lint(completion, language="plaintext")) / words) if words else 0.0
