"""A template that writes the date writes the day that it is told, as `strftime` does, and all else as ever."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from klimb.policy import chat, reward_head
from klimb.policy.base import PolicySettings
from klimb.policy.dated import SET, dated
from klimb.policy.loading import load
from klimb.policy.tiny import tiny_tokenizer
from klimb.rewards.reward_model import RewardModel
from klimb.types import Message, Prompt
from tests.rewards.classifiers import said
from tests.rewards.classifiers import saved as classifier

CHAT = Prompt("p", messages=(Message("user", "hi"),))
DAY = date(2026, 2, 3)
TODAY = "{{ strftime_now('%d %b %Y') }}\n{% for m in messages %}{{ m.content }}{% endfor %}"


class LongAgo(datetime):
    """The clock of transformers' templates, on a day of long ago."""

    @classmethod
    def now(cls, tz: Any = None) -> LongAgo:
        return cls(1999, 12, 31)


def written(template: str, day: date | None) -> str:
    tokenizer: Any = tiny_tokenizer(512)
    tokenizer.chat_template = template
    return str(tokenizer.decode(chat.render(CHAT, tokenizer, None, 512, day=day).tokens[1:]))


@pytest.mark.parametrize(
    "form",
    [
        "%d %b %Y",
        "%A, %-d %B",
        "%Y-%m-%dT%H:%M:%S",
        "%%d %d%%",
        "%j%U%y %p",
        "no day",
        "%",
        "100 %!",
        "",
        "%F|%x|%c",
        "'",
    ],
)
def test_the_day_is_written_as_strftime_writes_it(form: str) -> None:
    wanted = datetime.combine(DAY, time()).strftime(form)
    asking = f'{{%- set f = "{form}" -%}}<{{{{ strftime_now(f) }}}}>{{{{ strftime_now("%y") }}}}'
    assert written(asking, DAY) == f"<{wanted}>26"


def test_all_else_of_the_template_is_written_as_ever() -> None:
    odd = (
        "\n  {% if strftime_now is defined %}{% set x = strftime_now('%Y') %}{% endif %}\n {{ x }} \n"
        "{% macro year() %}{{ strftime_now('%Y') }}{% endmacro %}{% for m in messages %}\n"
        " {{ year() }}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %} a: {% endif %}\n\n"
    )
    now = datetime.now().astimezone().date()
    assert written(odd, now) == written(odd, None) and str(now.year) in written(odd, now)
    assert dated("{{ messages[0].content }}", DAY) == "{{ messages[0].content }}"


def test_a_policy_is_told_its_day_and_one_without_asks_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template_utils, "datetime", LongAgo)
    for day, wanted in ((DAY, "03 Feb 2026"), (None, "31 Dec 1999")):
        policy = load(PolicySettings(date=day))
        policy.tokenizer.chat_template = TODAY
        assert policy.decode(policy.render(CHAT).tokens) == f"{wanted}\nhi"
        assert policy.tokens_of(CHAT) == policy.render(CHAT).tokens


def test_a_reward_model_scores_a_text_alike_on_every_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load(PolicySettings(date=DAY))
    policy.tokenizer.chat_template = TODAY
    policy.add_critic().weight.data.normal_()
    reward_head.save(policy, None, tmp_path / "ours")
    policy.date = None
    reward_head.save(policy, None, tmp_path / "old")
    classifier(tmp_path / "theirs")
    assert [reward_head.read(tmp_path / name).date for name in ("ours", "old")] == [DAY, None]
    scores: dict[str, list[float | None]] = {"ours": [], "old": [], "theirs": []}
    for fixed in (False, True):
        for name, found in scores.items():
            tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / name)
            day = DAY if name == "ours" else SET
            tokenizer.chat_template = (
                TODAY.replace("{{ strftime_now('%d %b %Y') }}", f"{day:%d %b %Y}") if fixed else TODAY
            )
            tokenizer.save_pretrained(tmp_path / name)
            for clock in (datetime, LongAgo):
                monkeypatch.setattr(chat_template_utils, "datetime", clock)
                with RewardModel(path=tmp_path / name, normalised=False).open() as scorer:
                    found.append(scorer([CHAT], [said("yes")])[0].value)
    assert all(len(set(found)) == 1 and found[0] is not None for found in scores.values())
    assert scores["ours"] != scores["old"]
