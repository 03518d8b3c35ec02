"""Secrets stay out of files: what is named like one, and every text in which one occurs, is blotted out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "[redacted]"
SHORTEST = 6
"""Values of secret variables shorter than this are not searched for in texts (they would match everywhere)."""

_WORDS = frozenset(
    ["key", "apikey", "token", "secret", "secrets", "password", "passwd", "passphrase", "credential", "credentials"]
)
_BROAD = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_SHAPES = re.compile(
    r"\b(?:hf_|sk-|ghp_|gho_|github_pat_|glpat-|xox[abp]-|wandb_v1_|AKIA)[A-Za-z0-9_\-]{12,}|(?<=Bearer )\S+"
)
_USERINFO = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_QUERY = re.compile(r"(?<=[?&])([\w\-]*(?:key|token|secret|password|sig)[\w\-]*=)[^&\s#]+", re.IGNORECASE)
_ASSIGNED = re.compile(r"^(-*[\w.\-]+)=(.*)$", re.DOTALL)


def is_secret_name(name: str) -> bool:
    """Whether a setting or option of this name holds a secret: `api_key`, `--token`; not `max_tokens`."""
    return not _WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def redact_text(text: str) -> str:
    """The text without the values of secret environment variables, passwords in URLs and well-known token shapes."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and _BROAD.search(name):
            text = text.replace(value, HIDDEN)
    text = _QUERY.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub(HIDDEN, text))
    return _SHAPES.sub(HIDDEN, text)


def redact_words(words: Sequence[str]) -> list[str]:
    """A command line without its secrets: `--api-key VALUE`, `api_key=VALUE` and what `redact_text` knows."""
    shown: list[str] = []
    for word in words:
        before = shown[-1] if shown else ""
        assigned = _ASSIGNED.match(word)
        if before.startswith("-") and "=" not in before and is_secret_name(before):
            shown.append(HIDDEN)
        elif assigned and is_secret_name(assigned[1]):
            shown.append(f"{assigned[1]}={HIDDEN}")
        else:
            shown.append(redact_text(word))
    return shown


def redact(value: Any) -> Any:
    """The same JSON value with every text redacted, and every text under a secret's name blotted out."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {
            str(name): HIDDEN if isinstance(inner, str) and inner and is_secret_name(str(name)) else redact(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(inner) for inner in value]
    return value
