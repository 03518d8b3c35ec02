"""A prompt is tokenised once, BOS stands once, every EOS is known, and text comes back as it was."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import processors

from klimb.errors import DataError, ModelError
from klimb.policy import chat
from klimb.policy.tiny import tiny_tokenizer
from klimb.types import Message, Prompt

CHAT = Prompt("p1", messages=(Message("user", "hi"),))


@pytest.fixture
def tokenizer() -> Any:
    return tiny_tokenizer(64)


def render(prompt: Prompt, tokenizer: Any, system: str | None = None, context: int = 64, room: int = 1) -> list[int]:
    return list(chat.render(prompt, tokenizer, system, context, room).tokens)


def test_a_text_gets_bos_once_where_the_tokenizer_wants_it(tokenizer: Any) -> None:
    tokens = render(Prompt("a", text="hi"), tokenizer)
    assert tokens[0] == tokenizer.bos_token_id and tokens.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(tokens[1:]) == "hi"
    assert render(Prompt("a", text="<bos>hi"), tokenizer) == tokens


def test_a_template_that_writes_bos_does_not_get_a_second(tokenizer: Any) -> None:
    assert tokenizer.decode(render(CHAT, tokenizer)) == "<bos>user: hi\nassistant: "


def test_a_template_without_bos_gets_the_one_that_the_tokenizer_wants(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    assert tokenizer.decode(render(CHAT, tokenizer)) == "<bos>[hi]"


def test_a_tokenizer_that_adds_no_bos_gets_none(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    assert tokenizer.bos_token_id not in render(Prompt("a", text="hi"), tokenizer)


def test_no_eos_is_put_behind_a_prompt(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    assert render(Prompt("a", text="hi"), tokenizer) == [1, *tokenizer("hi", add_special_tokens=False)["input_ids"]]


def test_what_is_rendered_is_never_rendered_again(tokenizer: Any) -> None:
    once = chat.render(CHAT, tokenizer, None, 64)
    tokenizer.chat_template = "something else"
    assert chat.render(once, tokenizer, "another system", 64) is once


def test_the_system_message_goes_before_chats_that_have_none(tokenizer: Any) -> None:
    assert tokenizer.decode(render(CHAT, tokenizer, "be brief")) == "<bos>system: be brief\nuser: hi\nassistant: "
    own = Prompt("a", messages=(Message("system", "own"), Message("user", "hi")))
    assert tokenizer.decode(render(own, tokenizer, "be brief")) == "<bos>system: own\nuser: hi\nassistant: "
    assert "system" not in tokenizer.decode(render(Prompt("a", text="hi"), tokenizer, "be brief"))


@pytest.mark.parametrize("room", [1, 20])
def test_a_prompt_that_leaves_too_little_room_is_an_error_by_id(tokenizer: Any, room: int) -> None:
    fits = Prompt("long one", text="x" * (64 - 1 - room))
    assert len(render(fits, tokenizer, room=room)) == 64 - room
    with pytest.raises(DataError, match=rf"'long one' must leave room for {room} more.*found: {65 - room} tokens.*64"):
        render(Prompt("long one", text="x" * (64 - room)), tokenizer, room=room)
    done = Prompt("long one", text="x", tokens=tuple(range(64)))
    with pytest.raises(DataError, match="'long one'"):
        render(done, tokenizer, room=room)


def test_an_empty_prompt_is_bos_alone_or_an_error(tokenizer: Any) -> None:
    assert render(Prompt("a", text=""), tokenizer) == [1]
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    with pytest.raises(DataError, match="'a' wants at least one token"):
        render(Prompt("a", text=""), tokenizer)
    with pytest.raises(DataError, match="'a' wants messages or a text"):
        render(Prompt("a"), tokenizer)


def test_a_chat_without_a_template_is_an_error_with_its_cure(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match=r"'p1' is a chat.*try: an instruct model, or plain text"):
        render(CHAT, tokenizer)


def test_a_template_that_refuses_a_chat_is_an_error_by_id(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(DataError, match=r"'p1' cannot be rendered.*no system role"):
        render(CHAT, tokenizer)


def test_every_text_comes_back_as_it_was_and_special_tokens_are_left_out(tokenizer: Any) -> None:
    for text in ("tab\tend", "  two  spaces ", "naïve", "日本語", "🙂🙃", "line\nline", "a , b ."):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(tokens) == len(text.encode())
        assert chat.decode([1, *tokens, 2, 0], tokenizer) == text


def test_eos_ids_are_those_of_the_tokenizer_and_of_the_configurations(tokenizer: Any) -> None:
    class Config:
        def __init__(self, eos: Any) -> None:
            self.eos_token_id = eos

    assert chat.eos_ids(tokenizer, Config([7, 2]), Config(9)) == {2, 7, 9}
    assert chat.eos_ids(tokenizer, Config(None)) == {2}
