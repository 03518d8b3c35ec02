"""Prompts and completions for the tests of rewards."""

from __future__ import annotations

from typing import Any

from klimb.types import Completion, Finish, Message, Prompt


def said(text: str, tokens: int = 1) -> Completion:
    return Completion((1,) * tokens, (0.0,) * tokens, text, Finish.EOS)


def asked(answer: str | None = "12", **columns: Any) -> Prompt:
    return Prompt("p", text="5 + 7 =", answer=answer, metadata=columns)


def chatted(answer: str | None = "12") -> Prompt:
    return Prompt("c", messages=(Message("system", "Be brief."), Message("user", "5 + 7 =")), answer=answer)
