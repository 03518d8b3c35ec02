"""Token ids as texts, one by one: also those that are only a part of a character."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BROKEN = "\N{REPLACEMENT CHARACTER}"


class Words:
    """The text of each token id; without a tokenizer, its number."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._tokenizer, self._known = tokenizer, dict[int, str]()
        self._bytes = _byte_alphabet()

    def __call__(self, token: int) -> str:
        """What this token writes; bytes that are no text by themselves as ⟨E2 82⟩."""
        if token not in self._known:
            self._known[token] = self._text(token)
        return self._known[token]

    def _text(self, token: int) -> str:
        if self._tokenizer is None:
            return f"⟨{token}⟩"
        text = str(self._tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if text and BROKEN not in text:
            return text
        piece = str(self._tokenizer.convert_ids_to_tokens([token])[0])
        if piece and all(letter in self._bytes for letter in piece):
            return "⟨" + " ".join(f"{self._bytes[letter]:02X}" for letter in piece) + "⟩"
        return piece if text == "" else text


def _byte_alphabet() -> dict[str, int]:
    """The letters by which byte-level tokenizers write bytes (GPT-2): printable ones themselves, others from 256 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
