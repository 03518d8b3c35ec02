"""Malformed rows of logs, each with the rule that must be used on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def changed(**values: Any) -> Callable[[Row], Row]:
    return lambda row: {**row, **values}


def without(*names: str) -> Callable[[Row], Row]:
    return lambda row: {name: value for name, value in row.items() if name not in names}


def turns(*pairs: tuple[Any, Any]) -> Callable[[Row], Row]:
    return changed(messages=[{"role": role, "content": content} for role, content in pairs])


def answered(value: Any) -> Callable[[Row], Row]:
    return turns(("user", "hi"), ("assistant", value))


def choice(**values: Any) -> Callable[[Row], Row]:
    """The first choice of an OpenAI-style response, changed."""

    def change(row: Row) -> Row:
        row = json.loads(json.dumps(row))
        row["response"]["choices"][0].update(values)
        return row

    return change


def request(**values: Any) -> Callable[[Row], Row]:
    return lambda row: {**row, "request": {**row["request"], **values}}


def logprobs(*pairs: tuple[str, Any]) -> Callable[[Row], Row]:
    return choice(logprobs={"content": [{"token": token, "logprob": value} for token, value in pairs]})


CHAT: list[tuple[Callable[[Row], Any] | str, str]] = [
    ('{"messages": [', "not-a-row"),
    ("[1, 2", "not-a-row"),
    ('"text"', "not-a-row"),
    ('{"messages": 1, "messages": 2}', "not-a-row"),
    ('{"a": ' * 3000, "not-a-row"),
    (without("messages"), "no-prompt"),
    (changed(messages=None), "no-prompt"),
    (changed(messages=[]), "bad-turns"),
    (changed(messages="hello"), "bad-turns"),
    (changed(messages=["hello"]), "bad-turns"),
    (changed(messages=[{"content": "hi"}]), "bad-turns"),
    (turns(("wizard", "hi"), ("assistant", "yes")), "bad-turns"),
    (turns((3, "hi"), ("assistant", "yes")), "bad-turns"),
    (turns(("user", "hi"), ("system", "be kind"), ("assistant", "yes")), "bad-turns"),
    (turns(("user", "hi")), "no-completion"),
    (turns(("assistant", "yes")), "no-prompt"),
    (turns(("user", "hi"), ("assistant", "a"), ("assistant", "b")), "no-prompt"),
    (turns(("user", ""), ("assistant", "yes")), "bad-turns"),
    (answered(None), "bad-turns"),
    (answered("   "), "bad-turns"),
    (answered(True), "bad-text"),
    (answered("a\0b"), "bad-text"),
    (answered("\ud83d"), "bad-text"),
    (answered("x" * 1_000_001), "bad-text"),
    (answered([{"type": "image_url", "image_url": "x"}]), "not-text"),
    (turns(("user", "hi"), ("tool", "42"), ("assistant", "42")), "not-text"),
    (changed(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [1]}]), "not-text"),
    (turns(("user", "hi"), ("assistant", "yes"), ("user", "thanks")), "later-turns"),
    (answered([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "joined-parts"),
    (turns(("developer", "be kind"), ("user", "hi"), ("assistant", "yes")), "developer-role"),
    (changed(thumb="1.0"), "number-as-text"),
    (changed(thumb=None), "no-score"),
    (changed(thumb="sideways"), "bad-score"),
    (changed(thumb=float("nan")), "bad-score"),
    (changed(thumb=10**400), "bad-score"),
    (changed(thumb={"up": 1}), "bad-score"),
    (changed(finish_reason="content_filter"), "unfinished"),
    (changed(finish_reason="who knows"), "finish-unknown"),
    (changed(model="\ud83d"), "bad-text"),
    (changed(model={"name": "helper-3"}), "bad-text"),
    (changed(temperature=-1.0), "bad-transform"),
    (changed(temperature="warm"), "bad-transform"),
    (changed(top_p=1.5, top_k=0), "bad-transform"),
    (changed(logprobs=[-0.1, -0.2, -0.3]), "logps-count"),
]
"""Of a chat log's row, or whole lines."""

SLIME: list[tuple[Callable[[Row], Any] | str, str]] = [
    (without("prompt"), "no-prompt"),
    (without("response"), "no-completion"),
    (changed(tokens="1 2 3"), "bad-tokens"),
    (changed(tokens=[1, -2, 3, 4]), "bad-tokens"),
    (changed(tokens=[1, 2.5, 3, 4]), "bad-tokens"),
    (changed(tokens=[1, 2**40, 3, 4]), "bad-tokens"),
    (changed(tokens=[1, 3, 4, 258 + 100]), "text-differs"),
    (changed(response="something else"), "text-differs"),
    (changed(response_length=0), "bad-length"),
    (changed(response_length=99), "bad-length"),
    (without("response_length"), "bad-length"),
    (changed(loss_mask=[1, 0]), "masked-tokens"),
    (changed(loss_mask=[1]), "masked-tokens"),
    (changed(label=float("nan")), "bad-text"),
    (changed(status="aborted"), "unfinished"),
    (changed(status="failed"), "unfinished"),
    (changed(reward={"score": 1.0}), "bad-score"),
    (changed(rollout_log_probs=[-0.5]), "logps-count"),
    (changed(rollout_log_probs=[-0.5, None]), "logps-values"),
    (changed(rollout_log_probs=[-0.5, 0.3]), "logps-values"),
    (changed(rollout_log_probs=[-0.5, 1e-6]), "logps-rounded"),
    (changed(prompt="9" * 600, tokens=[]), "unrenderable"),
    (changed(weight_versions=[], label="", rollout_log_probs=None, tokens=[]), "added-end"),
]

OPENAI: list[tuple[Callable[[Row], Any] | str, str]] = [
    (changed(response={}), "no-completion"),
    (changed(response={"choices": "none"}), "no-completion"),
    (choice(message={"role": "assistant", "content": None}), "no-completion"),
    (logprobs(("5", "low")), "logps-values"),
    (logprobs(("5", -0.1), ("6", -0.1), ("7", -0.1)), "logps-count"),
    (logprobs(("6", -0.1)), "logps-other-tokens"),
    (logprobs(("token_id:3", -0.1)), "text-differs"),
    (logprobs(("token_id:\u00b2", -0.1)), "logps-other-tokens"),
    (logprobs(("5", -1e39)), "logps-values"),
    (choice(logprobs={"tokens": 3, "token_logprobs": [-0.2]}), "logps-values"),
    (choice(logprobs={"tokens": ["5"], "token_logprobs": -0.2}), "logps-values"),
    (choice(logprobs={"tokens": ["5"], "token_logprobs": [-0.2, -0.3]}), "logps-count"),
    (request(temperature=0.0), "logps-greedy"),
    (request(temperature=0.7), "logps-of-model"),
    (request(top_p=None), "logps-transform"),
    (request(messages=[{"role": "assistant", "content": "yes"}]), "bad-turns"),
]

TRL: list[tuple[Callable[[Row], Any] | str, str]] = [
    (changed(completion=[]), "bad-text"),
    (changed(completion=[{"role": "assistant", "content": "a"}] * 2), "several-turns"),
    (changed(completion=[{"role": "user", "content": "a"}]), "bad-turns"),
    (changed(step=-1), "bad-number"),
    (changed(correct=None), "no-score"),
    (changed(correct=1.7e308, short=1.7e308), "bad-score"),
    (changed(prompt=["x"]), "bad-turns"),
]
EVERY = [
    (base, index, change, rule)
    for base, cases in (("chat", CHAT), ("slime", SLIME), ("openai", OPENAI), ("trl", TRL))
    for index, (change, rule) in enumerate(cases)
]
