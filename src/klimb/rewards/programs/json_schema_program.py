"""The program of the source `json-schema`. Loaded by its path; imports nothing of klimb."""

from __future__ import annotations

import json
import re
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry

FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


def score(completion: str, told: dict[str, Any]) -> float:
    """Whether the text is JSON that the schema allows."""
    text = completion.strip()
    fenced = FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return 0.0
    return float(Draft202012Validator(told["form"], registry=Registry()).is_valid(value))
