"""How a model reads and writes text: its tokenizer and what its configurations say, without its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from klimb.policy import chat
from klimb.policy.markers import Markers
from klimb.policy.outline import Outlines
from klimb.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Texts:
    """Prompts and answers as the token ids of one model, and back. `generation` is None where it has no such settings.

    `system` is the message put before chats that have none.
    `date` is what a template is told that writes it; None = today.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: Any,
        generation: Any,
        system: str | None = None,
        date: date | None = None,
    ) -> None:
        self.tokenizer, self.system, self.date, self._config = tokenizer, system, date, config
        self.eos_ids = chat.eos_ids(tokenizer, generation, config)

    @property
    def _eos(self) -> int | None:
        own = self.tokenizer.eos_token_id
        return min(self.eos_ids, default=None) if own is None else int(own)

    @property
    def context(self) -> int:
        """The most tokens a prompt and its completion may have together."""
        for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
            if isinstance(value := getattr(self._config, name, None), int) and value > 0:
                return value
        return int(min(self.tokenizer.model_max_length, 1 << 30))

    def render(self, prompt: Prompt, room: int = 1) -> Prompt:
        """The prompt with its token ids; `room` tokens must be left for the answer. Raises DataError, ModelError."""
        return chat.render(prompt, self.tokenizer, self.system, self.context, room, self.date, self._bos)

    def tokens_of(self, prompt: Prompt) -> tuple[int, ...]:
        """The token ids of a prompt, however many. Raises DataError, ModelError."""
        return chat.render(prompt, self.tokenizer, self.system, 1 << 60, 0, self.date, self._bos).tokens

    def again(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The token ids of the text that these ids are, special tokens written out."""
        return chat.again(tokens, self.tokenizer)

    def reply(self, text: str) -> tuple[int, ...]:
        """The token ids of an answer that somebody else wrote, with EOS at its end; an encoder may have none."""
        return chat.reply(text, self.tokenizer, self._eos)

    def written(self, prompt: Prompt, text: str) -> tuple[int, ...]:
        """The same, of an answer to a prompt that is read as text, but for one EOS that is spelled at its end.

        So a reward model reads answers, in training, in its measures and in scoring. Raises DataError where the
        tokenizer cannot, as an answer that spells what the template writes between turns.
        """
        end = self.reply("")
        spelled = self.tokenizer.decode(list(end), clean_up_tokenization_spaces=False)
        tokens = (*self.markers.alone(text.removesuffix(str(spelled))), *end)
        self.markers.check(tokens, self.outline(prompt))
        return tokens

    def outline(self, prompt: Prompt) -> str:
        """What the chat template writes between turns of such a prompt; empty for a text. Raises DataError."""
        roles = [turn["role"] for turn in chat.turns_of(prompt, self.system)] if prompt.messages else []
        return self._outlines(prompt, roles) if roles else ""

    @cached_property
    def _outlines(self) -> Outlines:
        return Outlines(self.tokenizer, "the model's")

    @cached_property
    def _bos(self) -> bool:
        return chat.wants_bos(self.tokenizer)

    @cached_property
    def markers(self) -> Markers:
        """The tokens that structure its texts."""
        return Markers(self.tokenizer)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of some tokens, special ones left out."""
        return chat.decode(tokens, self.tokenizer)

    def ended(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The token ids of an answer that was drawn, with EOS after them where what ended it is none, as a limit is.

        A model without EOS has none to put there.
        """
        end = self._eos
        return tokens if end is None or self.eos_ids.intersection(tokens[-1:]) else (*tokens, end)

    def template(self) -> str:
        """A hash of the chat template; empty where the tokenizer has none."""
        text = getattr(self.tokenizer, "chat_template", None)
        return hashlib.sha256(str(text).encode()).hexdigest()[:16] if text else ""
