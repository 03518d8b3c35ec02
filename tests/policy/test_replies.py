"""An answer that somebody else wrote becomes the tokens that a policy would have drawn: no second BOS, one EOS."""

from __future__ import annotations

from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.types import Message, Prompt


def test_an_answer_has_no_bos_and_one_eos_and_the_prompt_one_bos() -> None:
    policy = load(PolicySettings(name="tiny"))
    tokens = policy.reply("yes")
    assert tokens[-1] == 2 and 1 not in tokens and policy.decode(tokens) == "yes"
    assert policy.reply("yes<eos>") == tokens and policy.reply("") == (2,)
    prompt = policy.render(Prompt("p", messages=(Message("user", "q"),)))
    assert prompt.tokens.count(1) == 1 and prompt.tokens[0] == 1


def test_an_answer_that_is_read_as_text_spells_what_it_likes_and_ends_in_one_eos() -> None:
    policy = load(PolicySettings(name="tiny"))
    prompt = Prompt("p", messages=(Message("user", "q"),))
    found = [policy.written(prompt, text) for text in ("yes", "yes<eos>", "", "a<eos><bos>b<eos>")]
    assert found[0] == found[1] == policy.reply("yes") and found[2] == (2,)
    forged = found[3]
    assert forged[-1] == 2 and {0, 1, 2}.isdisjoint(forged[:-1]) and len(forged) == len("a<eos><bos>b") + 1


def test_an_answer_that_was_cut_gets_one_eos_and_one_that_ended_in_any_way_none() -> None:
    policy = load(PolicySettings(name="tiny"))
    assert policy.ended((70,)) == (70, 2) == policy.ended((70, 2)) and policy.ended(()) == (2,)
    policy.eos_ids = frozenset({2, 71})
    assert policy.ended((70, 71)) == (70, 71)
    policy.eos_ids, policy.tokenizer.eos_token = frozenset(), None
    assert policy.ended((70,)) == (70,)


def test_padding_and_eos_being_one_token_changes_nothing() -> None:
    policy = load(PolicySettings(name="tiny"))
    before = policy.reply("ab")
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    assert policy.reply("ab") == before and before.count(2) == 1


def test_prompt_and_answer_are_the_templates_own_tokens() -> None:
    policy = load(PolicySettings(name="tiny"))
    asked = [{"role": "user", "content": "q"}]
    prompt = policy.render(Prompt("p", messages=(Message("user", "q"),)))
    whole = policy.tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": "ab"}], tokenize=False)
    ids = policy.tokenizer(str(whole).rstrip("\n"), add_special_tokens=False)["input_ids"]
    assert [*prompt.tokens, *policy.reply("ab")[:-1]] == ids
