"""What an answer must not spell is what a template writes between turns, and nothing else that it writes."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken

from klimb.errors import DataError
from klimb.policy.markers import Markers
from klimb.policy.outline import Outlines
from klimb.policy.tiny import tiny_tokenizer
from klimb.types import Prompt

PROMPT, THOUGHTS = Prompt("p"), {"<think>", "</think>"}


def turn(role: str, text: str) -> str:
    return f"{{% if m.role == '{role}' %}}{text.replace('TEXT', '{{ m.content }}')}{{% endif %}}"


def template(user: str, assistant: str, system: str = "", begins: str = "") -> str:
    turns = turn("user", user) + turn("assistant", assistant)
    return f"{begins}{system}{{% for m in messages %}}{turns}{{% endfor %}}"


THINKS = template("<|User|>TEXT", "<|Assistant|></think>TEXT<eos>")
ONCE = "{% if messages|length > 2 %}{{ raise_exception('one answer') }}{% endif %}"
SYSTEM = "<|im_start|>system\nThink within <think> and </think>.<|im_end|>\n"
CHATML = "<|im_start|>user\nTEXT<|im_end|>\n", "<|im_start|>assistant\nTEXT<|im_end|>\n"
PAIR = ONCE.replace("> 2", "!= 2")
ENDS = "{% if messages[-1].role != 'assistant' %}{{ raise_exception('an answer last') }}{% endif %}"
LAST = "{% if loop.last %}<|stop|>{% endif %}"
CASES = {
    "thoughts in an answer's turn": (THINKS, {"<|User|>", "<|Assistant|>"}, THOUGHTS),
    "of one answer alone": (ONCE + THINKS, {"<|User|>", "<|Assistant|>"}, THOUGHTS),
    "in the system text": (template(*CHATML, SYSTEM), {"<|im_start|>", "<|im_end|>"}, THOUGHTS),
    "what begins the whole": (f"<bos><s>Use <think>.{THINKS}", {"<s>", "<|User|>", "<|Assistant|>"}, THOUGHTS),
    "lines": (template("<|a|>user\nTEXT<|b|>\n", "<|a|>model\nTEXT<|b|>\n"), {"<|a|>", "<|b|>"}, {"\n"}),
    "a line before": (template("<u>\nTEXT", "\n<a>\n<think></think>\nTEXT"), {"<u>", "<a>"}, {"\n", *THOUGHTS}),
    "roles in words": (template("User: TEXT\n", "Bot: <think></think>TEXT\n"), set(), THOUGHTS),
    "the end of a question": (template("<u>TEXT<e>", "<a><think></think>TEXT<e>"), {"<u>", "<e>", "<a>"}, THOUGHTS),
    "the end of an answer": (template("<u>TEXT", "<a>TEXT</done>"), {"<u>", "<a>"}, {"</done>"}),
    "an end of the last turn": (template(f"<u>TEXT{LAST}", "<a></think>TEXT"), {"<u>", "<a>", "</think>"}, set()),
    "of one question and one answer": (f"{PAIR}{template('<u>TEXT', '<a>TEXT')}", {"<u>", "<a>"}, THOUGHTS),
    "that ends with an answer": (f"{ENDS}{template('<u>TEXT', '<a>TEXT')}", {"<u>", "<a>"}, THOUGHTS),
    "a system text beside one answer": (ONCE + template(*CHATML, SYSTEM), {"<|im_start|>", "<|im_end|>"}, THOUGHTS),
    "words beside one answer": (ONCE + template("User: TEXT", "Bot: TEXT", "Be kind. "), set(), THOUGHTS),
    "no content at all": ("{% for m in messages %}<u>{{ m.content.parts }}{% endfor %}", {"<u>"}, THOUGHTS),
    "the last turn alone": ("<u>{{ messages[-1].content }}", {"<u>"}, set()),
}  # fmt: skip


def tokenizer_of(text: str, names: set[str]) -> Any:
    made: Any = tiny_tokenizer(64)
    made.chat_template = text
    made.backend_tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in sorted(names)])
    return made


@pytest.mark.parametrize("case", CASES)
def test_only_tokens_that_stand_between_turns_are_kept_out_of_answers(case: str) -> None:
    text, between, others = CASES[case]
    tokenizer = tokenizer_of(text, between | others)
    markers, outline = Markers(tokenizer), Outlines(tokenizer, "the model's")(PROMPT, ["user"])
    refused = set()
    for name in between | others:
        try:
            markers.check(markers.alone(f"a{name}b"), outline)
        except DataError:
            refused.add(name)
    assert refused == between


@pytest.mark.parametrize("once", ["", "{% if messages|length > 5 %}{{ raise_exception('too many') }}{% endif %}"])
@pytest.mark.parametrize("more", [[], ["tool"]])
def test_a_turn_of_a_tool_is_no_more_forged_than_a_users(once: str, more: list[str]) -> None:
    text = once + template("<|user|>TEXT", "<|assistant|><think></think>TEXT</done>") + "{% for m in messages %}"
    text = text.replace(
        "{% endfor %}{% for m in messages %}", turn("tool", "<|tool|><tool>TEXT</tool>") + "{% endfor %}"
    )
    tokenizer = tokenizer_of(text, {"<|tool|>", "<|user|>", "<|assistant|>", "</done>", "<tool>", "</tool>", *THOUGHTS})
    markers = Markers(tokenizer)
    outline = Outlines(tokenizer, "the model's")(PROMPT, ["user", "assistant", "tool", *more])
    for name in ("<|tool|>", "<|user|>", "<|assistant|>"):
        with pytest.raises(DataError, match="tokens between turns"):
            markers.check(markers.alone(f"a{name}42"), outline)
    markers.check(markers.alone(f"<think>so</think><tool>42{'' if once else '</tool>'}</done>"), outline)


def test_a_tools_turn_is_seen_also_where_a_template_leaves_another_turn_out() -> None:
    said = "".join(turn(role, f"<|{role}|>TEXT") for role in ("user", "assistant", "tool"))
    tokenizer = tokenizer_of(
        f"{{% for m in messages %}}{said}{{% endfor %}}", {"<|user|>", "<|assistant|>", "<|tool|>"}
    )
    outline = Outlines(tokenizer, "the model's")(PROMPT, ["system", "user", "assistant", "tool"])
    markers = Markers(tokenizer)
    with pytest.raises(DataError, match=r"tokens between turns \(<\|tool\|>\)"):
        markers.check(markers.alone("a<|tool|>42"), outline)


def test_a_template_is_asked_once_for_the_same_roles_and_a_refusal_names_the_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuses = "{% if messages[0].role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    tokenizer = tokenizer_of(refuses + THINKS, THOUGHTS)
    calls, ask = [], tokenizer.apply_chat_template
    monkeypatch.setattr(tokenizer, "apply_chat_template", lambda *a, **k: calls.append(1) or ask(*a, **k))
    outlines = Outlines(tokenizer, "the model's")
    assert len({outlines(Prompt(str(n)), ["user"]) for n in range(9)}) == 1 and len(calls) == 2
    outlines(PROMPT, ["user", "assistant", "user"])
    assert len(calls) == 4
    for name in ("one", "two"):
        with pytest.raises(
            DataError, match=f"prompt '{name}' cannot be rendered by the model's chat template.*no tools"
        ):
            outlines(Prompt(name), ["tool"])
