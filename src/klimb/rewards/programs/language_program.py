"""The program of the source `language`. Loaded by its path; imports nothing of klimb."""

from __future__ import annotations

import py3langid


def score(completion: str, told: dict[str, str]) -> float:
    """Whether the text is taken for the wanted language."""
    return float(bool(completion.strip()) and py3langid.classify(completion)[0] == told["wanted"])
