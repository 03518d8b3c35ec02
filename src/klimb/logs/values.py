"""What the values of a log's row mean: texts, conversations, scores, tokens, log-probs. The rules are in `rules`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from klimb.data.faulty import Unfit
from klimb.data.mapping import text_of
from klimb.logs.rules import Unusable
from klimb.types import Finish, Message, Outcome, Score

Say = Callable[[str, str, object], None]
"""Notes a repair: the rule, the field, what was found."""
ABSENT = object()
LOWEST = -3e38
"""The lowest log-prob: below it float32 has none."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant"}
_THUMBS = {
    **dict.fromkeys(("up", "thumbs_up", "thumbs up", "👍", "+1", "like", "positive", "good", "yes", "true"), 1.0),
    **dict.fromkeys(("down", "thumbs_down", "thumbs down", "👎", "dislike", "negative", "bad", "no", "false"), 0.0),
}
_FINISHES = {
    **dict.fromkeys(("eos", "end_turn", "eos_token"), Finish.EOS),
    **dict.fromkeys(("stop", "stop_sequence", "completed"), Finish.STOP),
    **dict.fromkeys(("length", "max_tokens", "truncated"), Finish.LENGTH),
}
_FAILED = ("abort", "aborted", "failed", "pending", "error", "content_filter", "tool_calls", "function_call")


def at(row: Mapping[str, Any], path: str | None) -> tuple[str, Any]:
    """The field that a path names and its value, or ABSENT; of alternatives the first that is there and not null."""
    found: tuple[str, Any] = (path or "", ABSENT)
    for one in (path or "").split("|"):
        name = one.strip()
        value = _walk(row, name)
        if value is not ABSENT and value is not None:
            return name, value
        if value is None and found[1] is ABSENT:
            found = (name, None)
    return found


def _walk(row: Mapping[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return ABSENT
    return value


def text(value: Any, field: str, rule: str) -> str:
    """A text that is not empty. Raises Unusable: `rule` where there is none, bad-text where it is no good."""
    if value is ABSENT or value is None or (isinstance(value, str) and not value.strip()):
        raise Unusable(rule, field, "nothing" if value is ABSENT else value)
    if not isinstance(value, str):
        raise Unusable("bad-text", field, value)
    try:
        return text_of(value)
    except Unfit as error:
        raise Unusable("bad-text", field, error.found) from error


def word(value: Any, field: str, rule: str) -> str:
    """A text, or a finite number as a text. Raises Unusable."""
    if not isinstance(value, int | float):
        return text(value, field, rule)
    try:
        return text_of(value)
    except Unfit as error:
        raise Unusable(rule, field, error.found) from error


def turns(value: Any, field: str, say: Say) -> tuple[Message, ...]:
    """A conversation. Raises Unusable."""
    if not isinstance(value, list) or not value:
        raise Unusable("bad-turns", field, value)
    return tuple(_turn(one, f"{field}.{index}", index, say) for index, one in enumerate(value))


def _turn(value: Any, field: str, index: int, say: Say) -> Message:
    if not isinstance(value, Mapping) or "role" not in value:
        raise Unusable("bad-turns", field, value)
    if value.get("tool_calls") or value.get("function_call") or value["role"] in ("tool", "function"):
        raise Unusable("not-text", field, value)
    role = _ROLES.get(value["role"]) if isinstance(value["role"], str) else None
    if role is None or (role == "system" and index):
        raise Unusable("bad-turns", f"{field}.role", value["role"])
    if value["role"] == "developer":
        say("developer-role", f"{field}.role", value["role"])
    content = value.get("content")
    if isinstance(content, list):
        content = _joined(content, field, say)
    return Message(role, text(content, f"{field}.content", "bad-turns"))


def _joined(parts: list[Any], field: str, say: Say) -> str:
    for part in parts:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Unusable("not-text", f"{field}.content", part)
    if len(parts) > 1:
        say("joined-parts", f"{field}.content", f"{len(parts)} parts")
    return "".join(part["text"] for part in parts)


def score(value: Any, field: str, say: Say) -> Score:
    """A number, a truth value or a thumb as a score; anything else is unscorable, and said."""
    if value is ABSENT or value is None:
        say("no-score", field, "nothing" if value is ABSENT else "null")
        return Score(Outcome.UNSCORABLE, None, "not logged")
    if isinstance(value, bool | int | float) and _finite(value):
        return Score.of(float(value))
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _THUMBS:
            return Score.of(_THUMBS[word])
        number = _number(word)
        if number is not None:
            say("number-as-text", field, value)
            return Score.of(number)
    say("bad-score", field, value)
    return Score(Outcome.UNSCORABLE, None, "no finite number and no thumb")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _number(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def whole(value: Any, field: str, rule: str, most: int = 2**31 - 1) -> int:
    """A whole number from 0. Raises Unusable."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Unusable(rule, field, value)
    return value


def ids(value: Any, field: str) -> tuple[int, ...]:
    """Token ids. Raises Unusable."""
    if not isinstance(value, list):
        raise Unusable("bad-tokens", field, value)
    return tuple(whole(one, f"{field}.{index}", "bad-tokens") for index, one in enumerate(value))


def finish(value: Any, field: str, say: Say) -> Finish:
    """Why a completion ended. Raises Unusable for one that failed."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word in _FAILED:
        raise Unusable("unfinished", field, value)
    if isinstance(word, str) and word in _FINISHES:
        return _FINISHES[word]
    if value is not ABSENT and value is not None:
        say("finish-unknown", field, value)
    return Finish.STOP


@dataclass(frozen=True, slots=True)
class Logged:
    """Log-probs as they stand in a log. `pieces`: the text of each token, or its id where that is given."""

    values: tuple[float, ...] = ()
    pieces: tuple[str | int, ...] | None = None
    field: str = "logps"

    @property
    def by_id(self) -> tuple[int, ...]:
        """The token ids, where each piece is one."""
        named = [piece for piece in self.pieces or () if isinstance(piece, int)]
        return tuple(named) if len(named) == len(self.values) else ()


def logged(value: Any, field: str, say: Say) -> Logged:
    """The log-probs of a row; none, and said, where they are no good."""
    if isinstance(value, Mapping) and "token_logprobs" in value:
        value = _paired(value.get("tokens"), value["token_logprobs"], field, say)
    if value is ABSENT or value is None or value == []:
        return Logged(field=field)
    objects = isinstance(value, list) and all(isinstance(one, Mapping) for one in value)
    numbers = [one.get("logprob") for one in value] if objects else value
    if not isinstance(numbers, list) or not all(_is_logp(one) for one in numbers):
        bad = next((one for one in numbers if not _is_logp(one)), value) if isinstance(numbers, list) else value
        say("logps-values", field, bad)
        return Logged(field=field)
    if (most := max(numbers)) > 0:
        say("logps-rounded", field, most)
    pieces = tuple(_piece(one.get("token")) for one in value) if objects else None
    return Logged(tuple(min(float(one), 0.0) for one in numbers), pieces, field)


def _paired(tokens: Any, numbers: Any, field: str, say: Say) -> list[Any] | None:
    """Two lists as one of objects; None, and said, where they are no two lists of one length."""
    if numbers is None and not tokens:
        return None
    if not isinstance(tokens, list) or not isinstance(numbers, list):
        name, bad = ("tokens", tokens) if isinstance(numbers, list) else ("token_logprobs", numbers)
        say("logps-values", f"{field}.{name}", bad)
        return None
    if len(tokens) != len(numbers):
        say("logps-count", f"{field}.token_logprobs", f"{len(numbers)} log-probs of {len(tokens)} tokens")
        return None
    return [{"token": token, "logprob": number} for token, number in zip(tokens, numbers, strict=True)]


def _is_logp(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and LOWEST <= value <= 1e-4


def _piece(token: Any) -> str | int:
    id_ = token.removeprefix("token_id:") if isinstance(token, str) else ""
    return int(id_) if id_ != token and id_.isascii() and id_.isdigit() and len(id_) < 10 else str(token)
