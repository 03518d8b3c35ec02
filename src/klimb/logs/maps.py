"""Which fields of a log are what: the named mappings, and short YAML over them."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from klimb.config import Settings, resolve
from klimb.errors import KlimbError, SettingsError
from klimb.nearest import nearest
from klimb.yamltext import read_marked

Name = Literal["none", "chat", "trl", "verl", "slime", "openai"]


class LogMap(Settings):
    """The fields of a row, by dotted path (`usage.tokens`, `choices.0`); `a | b` is the first that is there."""

    base: Name = "none"
    """The named mapping that this one changes."""
    each: str | None = None
    """A list in the row whose elements are completions of their own; their fields are `each.*`."""
    messages: str | None = None
    """The whole conversation: its last assistant's turn is the completion, what comes before it the prompt."""
    prompt: str | None = None
    """The prompt: a text, or a list of messages."""
    completion: str | None = None
    """The completion: a text, or a list with one message."""
    form: Literal["text", "chat"] = "text"
    """What a prompt is that is a text: text to go on with, or a user's turn."""
    answer: str | None = None
    """The right answer, where there is one."""
    id: str | None = None
    """What names the prompt for ever; by default a hash of its content."""
    step: str | None = None
    """The step at which it was drawn."""
    version: str | None = None
    """Which policy drew it."""
    finish: str | None = None
    """Why the completion ended."""
    status: str | None = None
    """Whether the sample is whole: completed or truncated."""
    prompt_tokens: str | None = None
    """The prompt's token ids."""
    tokens: str | None = None
    """The completion's token ids."""
    joined_tokens: str | None = None
    """Token ids of prompt and completion in one; the last `length` are the completion's."""
    length: str | None = None
    """How many of `joined_tokens` are the completion's."""
    mask: str | None = None
    """A loss mask, one number a token of the completion; all must be 1."""
    logps: str | None = None
    """Log-probs of the completion's tokens: numbers, or objects {token, logprob}."""
    logps_of: Literal["drawn", "model"] = "drawn"
    """Of which distribution: the one drawn from, or the model's before temperature, top_p and top_k."""
    temperature: float | str | None = None
    """A number for every row, or a field; null = not known."""
    top_p: float | str | None = None
    """A number for every row, or a field; null = not known."""
    top_k: int | str | None = None
    """A number for every row, or a field; 0 = off; null = not known."""
    scores: Annotated[dict[str, str], Field(default_factory=dict)]
    """Each score's name and field: a number, a truth value or a thumb."""
    rest: tuple[str, ...] | None = None
    """Where it is a list, every other field of the row that holds a number is a score too, save these."""
    weights: Annotated[dict[str, float], Field(default_factory=dict)]
    """The shares of the scores in the reward; by default 1 each."""
    columns: tuple[str, ...] = ()
    """Further fields that are kept in the metadata."""

    def paths(self) -> dict[str, str]:
        """Every field that is read, by what it is."""
        names = [name for name, value in self if name not in _NO_PATHS and isinstance(value, str)]
        return {name: getattr(self, name) for name in names} | {f"scores.{n}": p for n, p in self.scores.items()}


_NO_PATHS = ("base", "form", "logps_of")

_KNOWN = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
NAMED: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "none": {},
        "chat": {
            "messages": "messages | conversation",
            "scores": {"feedback": "score | thumb | rating | feedback"},
            "version": "model",
            "finish": "finish_reason",
            "logps": "logprobs",
            **_KNOWN,
        },
        "trl": {
            "prompt": "prompt",
            "completion": "completion",
            "step": "step",
            "rest": ["step", "advantage", "mode"],
        },
        "verl": {
            "prompt": "input",
            "completion": "output",
            "answer": "gts",
            "step": "step",
            "scores": {"score": "score"},
        },
        "slime": {
            "prompt": "prompt",
            "completion": "response",
            "answer": "label",
            "joined_tokens": "tokens",
            "length": "response_length",
            "mask": "loss_mask",
            "status": "status",
            "finish": "status",
            "version": "weight_versions.0",
            "logps": "rollout_log_probs",
            "scores": {"reward": "reward"},
        },
        "openai": {
            "each": "response.choices",
            "prompt": "request.messages | request.prompt",
            "completion": "each.message.content | each.text",
            "finish": "each.finish_reason",
            "logps": "each.logprobs.content | each.logprobs",
            "logps_of": "model",
            "temperature": "request.temperature",
            "top_p": "request.top_p",
            "top_k": 0,
            "version": "response.model | request.model",
            "scores": {"score": "each.score | score | thumb"},
        },
    }
)  # fmt: skip


def load_map(name: str) -> tuple[LogMap, frozenset[str]]:
    """The mapping of a name or a YAML file, and which of its settings the file itself says. Raises SettingsError."""
    if name in NAMED:
        return resolve(LogMap, {"base": name, **NAMED[name]}), frozenset()
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        near = nearest(name, NAMED)
        cure = f"--map {near}" if near else f"a YAML file, or one of {', '.join(NAMED)}"
        raise SettingsError([KlimbError("a mapping for the log", f"--map {name}, which is neither", cure)])
    data, lines = read_marked(path)
    places = {where: f"line {line} of {path}" for where, line in lines.items()}
    base = data.get("base", "none")
    under = NAMED.get(base, {}) if isinstance(base, str) else {}
    return resolve(LogMap, {**under, **data}, places), frozenset(data) - {"base"}
