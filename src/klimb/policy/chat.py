"""From a prompt to token ids, once; and from token ids back to text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from klimb.errors import DataError, ModelError
from klimb.policy.dated import dated
from klimb.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def render(
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    system: str | None,
    context: int,
    room: int = 1,
    day: date | None = None,
    bos: bool | None = None,
) -> Prompt:
    """The prompt with its `tokens`; one that has them already is only checked.

    `system` goes before a chat that has no system message. `room` tokens must be left in the context for the answer.
    `day` is what a template is told that writes the date; None = today. `bos`: what `wants_bos` says; None = ask it.
    Raises DataError by the prompt's id where it is empty or too long, ModelError where chats cannot be rendered.
    """
    tokens = prompt.tokens or tuple(_tokens(prompt, tokenizer, system, day, bos))
    if not tokens:
        raise DataError(f"prompt {prompt.id!r} wants at least one token", "none", "give it some text")
    if len(tokens) + room > context:
        raise DataError(
            f"prompt {prompt.id!r} must leave room for {room} more token{'s' * (room > 1)}",
            f"{len(tokens)} tokens, and the model's context is {context}",
            "a shorter prompt, a smaller sampling.max_tokens, or a model with a longer context",
        )
    return prompt if prompt.tokens else replace(prompt, tokens=tokens)


def decode(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of some tokens, special ones left out."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def again(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens of the text that they are, special ones written out: others where a text has more than one reading."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tuple(ids)


def reply(text: str, tokenizer: PreTrainedTokenizerBase, eos: int | None) -> tuple[int, ...]:
    """The tokens of an answer as a policy would have drawn them: no BOS, no template, and EOS once, at the end."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tuple(ids) if eos is None or ids[-1:] == [eos] else (*ids, eos)


def eos_ids(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> frozenset[int]:
    """Every id that ends a completion: the tokenizer's own and those named in the model's configurations."""
    values = [getattr(holder, "eos_token_id", None) for holder in (tokenizer, *configs)]
    lists = [value if isinstance(value, list | tuple) else [value] for value in values]
    return frozenset(int(value) for part in lists for value in part if value is not None)


def wants_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts BOS before a text."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def _tokens(
    prompt: Prompt, tokenizer: PreTrainedTokenizerBase, system: str | None, day: date | None, bos: bool | None
) -> list[int]:
    text = _chat(prompt, tokenizer, system, day) if prompt.messages else prompt.text
    if text is None:
        raise DataError(f"prompt {prompt.id!r} wants messages or a text", "neither", "fill one of the two")
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if (wants_bos(tokenizer) if bos is None else bos) and ids[:1] != [tokenizer.bos_token_id]:
        ids = [int(tokenizer.bos_token_id), *ids]
    return ids


def _chat(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, system: str | None, day: date | None) -> str:
    """The conversation as the model's chat template writes it, ready for the assistant's turn."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"prompt {prompt.id!r} is a chat, which needs a model with a chat template",
            "a tokenizer without one",
            "an instruct model, or plain text prompts",
        )
    turns = turns_of(prompt, system)
    cure = "roles and an order of turns that the model knows (some know no system message)"
    return templated(tokenizer, prompt, turns, "the model's", cure, day, add_generation_prompt=True)


def turns_of(prompt: Prompt, system: str | None = None) -> list[dict[str, str]]:
    """The conversation as chat templates take it, `system` before one that has no system message."""
    turns = [{"role": message.role, "content": message.content} for message in prompt.messages]
    own = system is None or turns[0]["role"] == "system"
    return turns if own else [{"role": "system", "content": str(system)}, *turns]


def templated(
    tokenizer: Any,
    prompt: Prompt,
    turns: list[dict[str, str]],
    whose: str,
    cure: str,
    day: date | None = None,
    **how: bool,
) -> str:
    """What a chat template (`whose`: in words), told the day, writes of a prompt's turns. Raises DataError."""
    try:
        text = None if day is None else dated(tokenizer.get_chat_template(), day)
        return str(tokenizer.apply_chat_template(turns, tokenize=False, chat_template=text, **how))
    except Exception as error:  # a template is a program of the model's author, and may raise anything
        asked = f"prompt {prompt.id!r} cannot be rendered by {whose} chat template"
        raise DataError(asked, f"{type(error).__name__}: {error}", cure) from error
