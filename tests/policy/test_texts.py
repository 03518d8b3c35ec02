"""Prompts and answers become the same tokens whether a model's weights are there or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GenerationConfig

from klimb.cli.preferring import Wanted, inspect
from klimb.cli.rewarding import compare
from klimb.errors import ModelError
from klimb.policy import chat
from klimb.policy.base import PolicySettings, TinySizes
from klimb.policy.loading import load, texts_of
from klimb.types import Message, Prompt
from tests.rewards.classifiers import saved as classifier

CHAT = Prompt("p", messages=(Message("user", "q"),))


def test_a_model_reads_and_writes_the_same_without_its_weights(tmp_path: Path) -> None:
    tiny = PolicySettings(system="be brief", tiny=TinySizes(context=64))
    policy = load(tiny)
    policy.model.generation_config.eos_token_id = [2, 7]
    policy.save(tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    saved = texts_of(tiny.at(tmp_path / "model"))
    for texts in (saved, texts_of(tiny)):
        assert texts.render(CHAT) == policy.render(CHAT) and texts.reply("yes") == policy.reply("yes")
        assert (texts.context, texts.template(), texts.system) == (64, policy.template(), "be brief")
    assert saved.eos_ids == {2, 7} and texts_of(tiny).eos_ids == policy.eos_ids == {2}
    with pytest.raises(ModelError, match="nothing there"):
        texts_of(PolicySettings(name="./none"))


def test_a_tokenizer_is_asked_once_whether_it_wants_bos(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, ask = [], chat.wants_bos
    monkeypatch.setattr(chat, "wants_bos", lambda tokenizer: calls.append(1) or ask(tokenizer))
    texts = texts_of(PolicySettings(name="tiny"))
    assert {texts.render(Prompt(str(n), text="q")).tokens[0] for n in range(3)} == {1} and texts.tokens_of(CHAT)[0] == 1
    assert len(calls) == 1


def test_an_encoder_will_do_where_tokens_are_counted_and_nothing_but_its_tokenizer_is_read(tmp_path: Path) -> None:
    folder, rows = classifier(tmp_path / "bert", "bert"), [{"prompt": p, "chosen": "b", "rejected": "cd"} for p in "ae"]
    (folder / "model.safetensors").unlink()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    GenerationConfig().save_pretrained(folder)
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    inspect(tmp_path / "pairs.jsonl", Wanted(model=str(folder)), as_json=tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert found["tokenized"]["answers"] == 4 and found["chosen"][0] == 1, "an answer of one letter, and no EOS"
    rewards = tmp_path / "rewards.yaml"
    rewards.write_text("rewards: [{type: length, most: 1}, {type: length, most: 2, name: other}]", "utf-8")
    compare(tmp_path / "pairs.jsonl", rewards, [], model=str(folder), as_json=tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text("utf-8"))["pairs"] == 2
