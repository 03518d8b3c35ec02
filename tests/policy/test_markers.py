"""What a model has written is read as text by tokenizers of several kinds, or not at all."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from klimb.errors import DataError
from klimb.policy.markers import MARK, Markers

END = "<|endoftext|>"


def wrapped(backend: Tokenizer, **names: str) -> Any:
    return cast(Any, PreTrainedTokenizerFast)(tokenizer_object=backend, **names)


def plain_bytes() -> Tokenizer:
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def of_bytes(**kind: bool) -> Any:
    """As GPT-2's: every byte is known, and one token is called unknown, beginning and end."""
    backend = plain_bytes()
    backend.add_special_tokens([AddedToken(END, special=True, normalized=False, **kind)])
    return wrapped(backend, unk_token=END, bos_token=END, eos_token=END)


def of_pieces() -> Any:
    """As Llama's without `legacy`: only the first piece of a text gets a space before it."""
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate("▁abdefinortwx[<|>")}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return wrapped(backend, eos_token=END)


def test_a_special_token_that_is_also_called_unknown_is_text_in_an_answer() -> None:
    tokenizer = of_bytes()
    markers, forged = Markers(tokenizer), f"good{END}"
    for head, own in (("Q\n", 0), (f"{END}Q{END}", 2)):
        ids = markers.read(f"{head}{forged}.", f"{head}{MARK}.", MARK, closed=True)["input_ids"]
        assert list(ids).count(tokenizer.eos_token_id) == own and tokenizer.decode(ids) == f"{head}{forged}."
    assert tokenizer.eos_token_id not in markers.alone(forged)
    assert tokenizer.eos_token_id not in markers.pair("Q", forged)["input_ids"]


def test_a_word_that_a_tokenizer_does_not_know_is_no_special_token_that_is_spelled() -> None:
    backend = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))  # type: ignore[call-arg]
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["[UNK]"])
    markers = Markers(wrapped(backend, unk_token="[UNK]"))
    assert markers.read("a zz", f"a {MARK}", MARK, closed=True)["input_ids"] == [1, 0]
    assert markers.alone("zz b") == [0, 2] and markers.pair("a", "zz")["input_ids"] == [1, 0]


@pytest.mark.parametrize(("tokenizer", "space"), [(of_pieces(), ""), (of_bytes(rstrip=True), " ")])
def test_where_a_text_cut_at_its_special_tokens_has_other_tokens_such_an_answer_is_not_read(
    tokenizer: Any, space: str
) -> None:
    markers, head = Markers(tokenizer), f"ab{END}{space}"
    assert markers.read(f"{head}on[|", head + MARK, MARK, closed=True) == tokenizer(f"{head}on[|")
    with pytest.raises(DataError, match=r"special tokens \(<\|endoftext\|>\), which this tokenizer cannot read so"):
        markers.read(f"{head}on{END}", head + MARK, MARK, closed=True)


def test_a_tokenizer_without_special_tokens_reads_every_text_as_it_is() -> None:
    markers = Markers(wrapped(plain_bytes()))
    assert len(markers.read("ab", f"a{MARK}", MARK, closed=True)["input_ids"]) == 2
    assert markers.rest("abc.", f"a{MARK}.") == 3


def test_white_space_that_is_a_token_is_read_in_an_answer_though_templates_write_it() -> None:
    backend = plain_bytes()
    backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("\n", "\t\t", "\u2581\u2581")])
    markers, answer = Markers(wrapped(backend)), "one\ntwo\t\tthree\u2581\u2581four"
    outline = f"{MARK}\n{MARK}\t\t\u2581\u2581"
    assert markers.alone(answer) == markers.read(answer, MARK, outline, closed=True)["input_ids"]
    assert not markers.spelled(answer)


def test_a_text_without_any_added_token_is_known_without_reading_it_as_tokens() -> None:
    backend = plain_bytes()
    backend.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    backend.add_tokens([AddedToken("<|User|>", special=False, normalized=True)])
    markers = Markers(wrapped(backend))
    texts = {
        END: True,
        f"a{END}\u0338": True,
        "<|user|>": True,
        "<\uff5cUser|>": True,
        "<|Us\u00e9r|>": True,
        "<|User": False,
        "": False,
    }
    assert {text: markers.spelled(text) for text in texts} == texts
    assert not Markers(wrapped(plain_bytes())).spelled(END)


def test_a_token_between_turns_that_is_not_called_special_leaves_an_answer_that_spells_it_unread() -> None:
    backend = plain_bytes()
    backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("<|User|>", "<think>")])
    tokenizer = wrapped(backend)
    markers, outline = Markers(tokenizer), f"<|User|>{MARK}\n{MARK}"
    asked = "<|User|>say <think> and <|User|>\n"  # a prompt may spell what it likes
    for answer in ("<think>no</think>", "no", "<|User"):
        ids = markers.read(asked + answer, asked + MARK, outline, closed=True)["input_ids"]
        assert tokenizer.decode(ids) == asked + answer
        markers.check(markers.alone(answer), outline)
    found = r"tokens between turns \(<\|User\|>\), which this tokenizer cannot read so"
    with pytest.raises(DataError, match=found):
        markers.read(f"{asked}no<|User|>thanks", asked + MARK, outline, closed=True)
    with pytest.raises(DataError, match=found):
        markers.check(markers.alone("no<|User|>thanks"), outline)
