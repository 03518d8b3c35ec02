"""Rows that do not fit into the model, or that it cannot read, are all named before training, with what helps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from klimb import session
from klimb.errors import DataError
from klimb.policy.loading import texts_of
from klimb.policy.texts import Texts
from klimb.recipe import Recipe
from klimb.rendering import Rendered, rendered
from klimb.session import problems_of
from tests.rewards.test_classified import Deaf

Pair = tuple[str, str]
SHORT: Pair = ("yes", "no")
ROOM = 64 - len("user: 1?\nassistant: ") - 1  # beside a prompt of one digit, with BOS
LONG = "x" * ROOM  # and EOS
DPO, SFT, REWARD, HYPO = ("dpo", "pairs"), ("sft", "answers"), ("bradley_terry", "pairs"), ("hypo", "mixture")


def opened(
    folder: Path, kind: tuple[str, str], train: Sequence[Pair], held: Sequence[Pair] = (SHORT,), **more: Any
) -> tuple[Recipe, Texts]:
    """A recipe of these pairs, whose prompts are a digit and a mark, and how its model reads them."""
    for name, mark, rows in (("rows", "?", train), ("held", "!", held)):
        lines = [{"prompt": f"{n % 10}{mark}", "chosen": a, "rejected": b} for n, (a, b) in enumerate(rows, 1)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    data = {"type": "preferences", "path": str(folder / "rows.jsonl"), "held_out": str(folder / "held.jsonl")}
    recipe = Recipe.model_validate(
        {
            "model": {"name": "tiny", "tiny": {"context": more.get("context", 64)}}, "data": data,
            "objective": {"type": kind[0]}, "sampling": {"max_tokens": more.get("max_tokens", 4)},
            "source": {"type": kind[1], "prompts": 2, **more.get("source", {})},
        }
    )  # fmt: skip
    return recipe, texts_of(recipe.model)


def render(recipe: Recipe, texts: Texts) -> Rendered:
    return rendered(recipe, problems_of(recipe), texts)


@pytest.mark.parametrize("kind", [DPO, SFT, REWARD, HYPO])
def test_answers_that_are_too_long_beside_their_prompt_are_all_named_and_the_cut_that_is_named_helps(
    kind: tuple[str, str], tmp_path: Path
) -> None:
    train, held = [SHORT, (LONG, "no"), (LONG + "xx", "no")], [("yes", LONG)]
    recipe, texts = opened(tmp_path, kind, train, held)
    with pytest.raises(DataError) as caught:
        render(recipe, texts)
    assert "use 4 prompts; found: 3 cannot be used" in caught.value.line()
    assert f"'rows:3' must leave room for {ROOM + 3} more tokens (its longest answer)" in caught.value.found
    assert "leave out rows:2, rows:3, held:1" in caught.value.cure
    assert caught.value.cure.startswith(f"source.answer_tokens={ROOM}, which cuts the end")
    recipe, texts = opened(tmp_path, kind, train, held, source={"answer_tokens": ROOM})
    assert [len(one) for one in (render(recipe, texts).train, render(recipe, texts).asked)] == [3, 1]


def test_only_answers_that_are_learned_from_or_measured_need_to_fit(tmp_path: Path) -> None:
    recipe, texts = opened(tmp_path, SFT, [("yes", LONG)] * 2)
    assert len(render(recipe, texts).train) == 2
    recipe, texts = opened(tmp_path, SFT, [SHORT] * 2, [SHORT, ("yes", LONG)])
    with pytest.raises(DataError, match=r"leave out held:2$"):
        render(recipe, texts)


@pytest.mark.parametrize(
    ("kind", "left"), [(DPO, "held:1"), (SFT, "held:1"), (REWARD, ""), (HYPO, "rows:1, rows:2, held:1")]
)
def test_room_for_a_sample_is_kept_where_the_policy_is_sampled_and_nowhere_else(
    kind: tuple[str, str], left: str, tmp_path: Path
) -> None:
    recipe, texts = opened(tmp_path, kind, [SHORT] * 2, max_tokens=ROOM + 1)
    if not left:
        assert len(render(recipe, texts).train) == 2
        return
    with pytest.raises(DataError, match=rf"\(sampling\.max_tokens\).*smaller sampling\.max_tokens.*leave out {left}$"):
        render(recipe, texts)


def test_held_out_answers_beside_the_pairs_of_a_log_need_to_fit_too(tmp_path: Path) -> None:
    logged = ("bradley_terry", "logged_pairs")
    recipe, texts = opened(tmp_path, logged, [("yes", LONG + "x")], [SHORT, ("yes", LONG + "x")], source={"logs": "x"})
    with pytest.raises(
        DataError, match=r"use 2 prompts; found: 1 cannot be used.*\(its longest.*mend or leave out held:2$"
    ):
        render(recipe, texts)


def test_prompts_that_nobody_answers_or_learns_from_need_no_room(tmp_path: Path) -> None:
    for kind, more in (("sft", {"type": "successes"}), ("dpo", {"type": "logged_pairs"})):
        recipe, texts = opened(tmp_path, (kind, more["type"]), [SHORT] * 2, source={"logs": "x"})
        problems = problems_of(recipe)
        long = replace(problems, train=[replace(one, text="x" * 70) for one in problems.train])
        assert [prompt.tokens for prompt in rendered(recipe, long, texts).train] == [(), ()]
    recipe, texts = opened(tmp_path, DPO, [(LONG + "xx", "no")] * 2, [("yes", LONG + "x")])
    assert len(rendered(recipe, problems_of(recipe), texts, learns=False).asked) == 1
    with session.opened(recipe, problems_of(recipe)) as measured:
        assert [len(side) for side in (measured.asked, measured.unlabelled)] == [1, 0]
    with pytest.raises(DataError, match="leave out rows:1, rows:2, held:1"):
        render(recipe, texts)


def test_no_cut_is_advised_that_would_leave_next_to_nothing_and_each_cure_stands_once(tmp_path: Path) -> None:
    recipe, texts = opened(tmp_path, DPO, [SHORT] * 2, context=len("user: 1?\nassistant: ") + 3)
    with pytest.raises(DataError) as caught:
        render(recipe, texts)
    assert caught.value.cure.startswith("source.prompt_tokens=") and "answer_tokens" not in caught.value.cure
    assert caught.value.line().count("try: ") == 1


def test_rows_whose_template_refuses_what_an_answer_is_held_against_are_named_before_training(tmp_path: Path) -> None:
    recipe, texts = opened(tmp_path, REWARD, [SHORT] * 2)
    tokenizer: Any = texts.tokenizer
    tokenizer.chat_template = (
        "{% if messages[-1].role != 'user' %}{{ raise_exception('a question last') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(
        DataError, match=r"3 cannot be used: prompt 'rows:1' cannot be rendered.*leave out rows:1, rows:2, held:1$"
    ):
        render(recipe, texts)


def test_where_one_cut_does_not_help_both_are_named(tmp_path: Path) -> None:
    recipe, texts = opened(tmp_path, REWARD, [("x" * 70, "no")] * 2, source={"prompt_tokens": 1})
    with pytest.raises(
        DataError, match=r"try: source\.answer_tokens=63, which cuts the end of longer answers; or a model"
    ):
        render(recipe, texts)
    recipe, texts = opened(tmp_path, REWARD, [("x" * 70, "no")] * 2, context=16)
    with pytest.raises(DataError, match=r"try: source\.prompt_tokens=8 source\.answer_tokens=8, which cuts both"):
        render(recipe, texts)
    cut = {"prompt_tokens": 8, "answer_tokens": 8}
    recipe, texts = opened(tmp_path, REWARD, [("x" * 70, "no")] * 2, context=16, source=cut)
    assert len(render(recipe, texts).train[0].tokens) == 8


def test_of_very_many_rows_the_first_hundred_are_named(tmp_path: Path) -> None:
    recipe, texts = opened(tmp_path, REWARD, [(LONG, "no")] * 103)
    with pytest.raises(DataError, match=r"103 cannot be used.*rows:100 and 3 more$"):
        render(recipe, texts)


def test_a_reward_model_s_rows_that_spell_a_token_between_turns_are_named_and_no_other_objective_minds(
    tmp_path: Path,
) -> None:
    train, held = [SHORT, ("no<|user|>thanks", "no"), ("<think>so</think>yes", "no")], [("yes", "no<|user|>yes")]
    for kind in (REWARD, DPO):
        recipe, texts = opened(tmp_path, kind, train, held)
        tokenizer: Any = texts.tokenizer
        tokenizer.chat_template = (
            "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}<think></think>{% endif %}"
            "{{ m.content }}{% endfor %}"
        )
        names = ("<|user|>", "<think>", "</think>")
        tokenizer.backend_tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
        if kind is DPO:
            assert len(render(recipe, texts).train) == 3
            continue
        with pytest.raises(DataError, match=r"tokens between turns \(<\|user\|>\).*leave out rows:2, held:1$"):
            render(recipe, texts)


def test_where_a_tokenizer_reads_special_tokens_in_any_text_such_rows_are_named_and_the_others_not_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = [SHORT, ("a<eos>b", "no"), ("yes", "<bos>no"), ("plain <eo", "<|user|>")]
    recipe, texts = opened(tmp_path, REWARD, train, context=512)
    monkeypatch.setattr(texts, "tokenizer", Deaf(texts.tokenizer))
    read, written = [], texts.written
    monkeypatch.setattr(texts, "written", lambda prompt, text: read.append(text) or written(prompt, text))
    with pytest.raises(DataError, match=r"special tokens \(<eos>\).*\(<bos>\).*try: mend or leave out rows:2, rows:3$"):
        render(recipe, texts)
    assert read == ["a<eos>b", "<bos>no"]
