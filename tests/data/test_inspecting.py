"""What is said of preference rows before training: counted by hand, and the two lines that a model must beat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from klimb.cli import main, preferring
from klimb.data.base import Problems
from klimb.data.inspecting import inspect
from klimb.data.tokenizing import tokenized
from klimb.errors import DataError, SettingsError
from klimb.policy import reward_head
from klimb.policy.base import PolicySettings, TinySizes
from klimb.policy.loading import load
from klimb.types import Message, Prompt, Reply


def pair(number: int, asked: str, chosen: str, rejected: str) -> tuple[Prompt, tuple[Reply, ...]]:
    replies = (Reply(chosen, True), Reply(rejected, False))
    return Prompt(f"p{number}", messages=(Message("user", asked),)), replies


def test_what_a_file_holds_is_counted() -> None:
    rows = [
        pair(0, "a", "one two three", "one"),
        pair(1, "a", "one two three", "one"),
        pair(2, "b", "same", "same"),
        pair(3, "c", "", "long enough"),
        pair(4, "a", "x", "y"),
    ]
    prompts = [prompt for prompt, _ in rows]
    opened = Problems(prompts[:4], prompts[4:], given={prompt.id: both for prompt, both in rows})
    found = inspect(opened, leaked=1)
    assert (found.train, found.held_out, found.prompts, found.pairs) == (4, 1, 3, 5)
    assert (found.duplicates, found.identical, found.empty, found.leaked) == (1, 1, 1, 1)
    assert found.longer_wins == (1 + 1 + 0.5 + 0 + 0.5) / 5 and found.chosen == (1, 3)
    assert any("1 held-out prompts stand in the training file" in line for line in found.lines())
    assert not any("held-out" in line for line in inspect(opened).lines())


def test_the_word_model_learns_a_word_and_nothing_from_noise() -> None:
    told = [pair(n, f"q{n}", f"good w{n}", f"bad w{n + 1}") for n in range(60)]
    noise = [pair(n, f"q{n}", f"a{n}", f"b{n}") for n in range(60)]
    opened = [Problems([p for p, _ in rows], [], given={p.id: both for p, both in rows}) for rows in (told, noise)]
    shares = [inspect(one).words_win for one in opened]
    assert shares == [1.0, 0.5]


def test_labelled_answers_have_no_pairs_to_win() -> None:
    prompt = Prompt("p", text="q")
    found = inspect(Problems([prompt], [], given={"p": (Reply("only", True),)}), len)
    assert found.longer_wins is None and found.unit == "tokens" and found.rejected == (0, 0)
    assert "no pairs" in found.lines()[3]


def test_the_command_says_it_and_names_what_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"p{n}", "chosen": "yes it is", "rejected": "no"} for n in range(10)] + [{"prompt": "alone"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    preferring.inspect(path, preferring.Wanted("pairs", "tiny", (1, 5)), as_json=tmp_path / "out.json")
    shown = capsys.readouterr().out
    assert "longer wins 100.0 %" in shown and "unusable    1 rows" in shown and "row 11" in shown
    saved = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert saved["unusable"] == 1 and saved["pairs"] == 10 and saved["chosen"] == [10, 10]
    cut = saved["tokenized"]
    assert (cut["prompts_cut"], cut["answers_cut"], cut["changed"], cut["unrendered"]) == (10, 10, 0, 0)
    assert "cut         10 of 10 prompts and 10 of 20 answers, such as" in shown
    with pytest.raises(SettingsError):
        preferring.inspect(path, preferring.Wanted("triples"))
    with pytest.raises(DataError, match="--policy MODEL"):
        preferring.inspect(path, preferring.Wanted("pairs", cut=(5, 5)))
    with pytest.raises(DataError, match="at least 1"):
        preferring.inspect(path, preferring.Wanted("pairs", "tiny", (5, 0)))


def test_the_command_counts_leaks_and_ties_reads_other_fields_and_recipes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(name: str, prompts: str) -> str:
        rows = [{"q": one, "good": "a", "bad": "b", "s": {"g": n, "b": n % 2}} for n, one in enumerate(prompts)]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), "utf-8")
        return str(tmp_path / name)

    def found(*words: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["data", "inspect", *words, "--json", str(tmp_path / "out.json")])
        assert ended.value.code in (0, None)
        known: dict[str, Any] = json.loads((tmp_path / "out.json").read_text("utf-8"))
        return known

    path, held = write("rows.jsonl", "abcd"), write("held.jsonl", "abx")
    fields = ["data.prompt=q", "data.chosen=good", "data.rejected=bad"]
    alone = found(path, *fields)
    assert alone["leaked"] is None and alone["ties"] == 0 and alone["pairs"] == 4
    both = found(path, *fields, f"held_out={held}", "scores=[s.g,s.b]")
    assert (both["leaked"], both["train"], both["held_out"], both["ties"]) == (2, 2, 3, 2)
    assert "2 held-out prompts stand in the training file; its rows of them are left out" in capsys.readouterr().out
    recipe = tmp_path / "mine.yaml"
    data = f"{{type: preferences, path: {path}, prompt: q, chosen: good, rejected: bad}}"
    source = "{type: pairs, prompt_tokens: 2, answer_tokens: 1}"
    recipe.write_text(f"model: {{name: tiny}}\ndata: {data}\nobjective: {{type: dpo}}\nsource: {source}\n", "utf-8")
    again = found(str(recipe), f"data.held_out={held}", "--policy", "tiny")
    assert again["leaked"] == 2 and (again["tokenized"]["prompts_cut"], again["tokenized"]["answers_cut"]) == (5, 10)
    with pytest.raises(DataError, match=r"data\.rows=hh"):
        preferring.inspect(recipe, preferring.Wanted("hh"))
    with pytest.raises(DataError, match="prompts only"):
        preferring.inspect(root / "recipes/tiny.yaml", preferring.Wanted())


def test_the_answers_of_a_reward_model_are_counted_as_it_reads_them(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "chosen": "a<eos>b", "rejected": "c<|user|>" if n else "c"} for n in range(4)]
    path, folder, recipe = tmp_path / "rows.jsonl", tmp_path / "model", tmp_path / "mine.yaml"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    policy = load(PolicySettings(name="tiny", tiny=TinySizes(hidden=32)))
    policy.add_critic()
    reward_head.save(policy, None, folder)
    texts: Any = AutoTokenizer.from_pretrained(folder)
    texts.backend_tokenizer.add_tokens([AddedToken("<|user|>", special=False, normalized=False)])
    texts.chat_template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    texts.save_pretrained(folder)
    parts = {"model": "{name: tiny}", "objective": "{type: dpo}", "source": "{type: pairs}"}
    parts["data"] = f"{{type: preferences, path: {path}}}"
    recipe.write_text("\n".join(f"{name}: {part}" for name, part in parts.items()), "utf-8")
    found = {}
    for name, file, words in (
        ("file", path, ()),
        ("recipe", recipe, ("objective.type=bradley_terry",)),
        ("policy", recipe, ()),
    ):
        preferring.inspect(file, preferring.Wanted(model=str(folder)), words, as_json=tmp_path / "out.json")
        found[name] = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert found["file"] == found["recipe"] and found["file"]["chosen"] == [8, 8]
    assert found["policy"]["chosen"] == [4, 4] and found["policy"]["tokenized"]["eos_within"] == 4
    counted = found["file"]["tokenized"]
    assert (counted["eos_within"], counted["unread"], counted["answers"]) == (0, 3, 8)
    assert counted["first"]["unread"] in ("rows:2", "rows:3", "rows:4")


class Stub:
    """A model that knows the words `a`, `b` and EOS, whose id is 0, in five places; `ab` is one token more."""

    eos_ids = frozenset({0})
    context = 5

    def tokens_of(self, prompt: Prompt) -> tuple[int, ...]:
        if prompt.text == "!":
            raise DataError("a template", "none", "another")
        return tuple(" ab".index(letter) for letter in prompt.text or "")

    def again(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        return (3, *tokens[2:]) if tokens[:2] == (1, 2) else tokens


def encode(prompt: Prompt, text: str) -> tuple[int, ...]:
    if text == "?":
        raise DataError("a text", "none", "another")
    return (*("!ab".index(letter) for letter in text), 0)


def test_what_a_tokenizer_makes_of_the_rows_is_counted() -> None:
    rows = {"aaa": ("b", "!a"), "ab": ("a", "a"), "!": ("a", "bb"), "aaaa": ("bb", "b")}
    prompts = [Prompt(f"p{number}", text=text) for number, text in enumerate(rows)]
    given = {
        prompt.id: (Reply(chosen, True, 1.0), Reply(other, False, 1.0))
        for prompt, (chosen, other) in zip(prompts, rows.values(), strict=True)
    }
    problems = Problems(prompts[:3], prompts[3:], given=given)
    whole, cut = tokenized(problems, Stub(), encode), tokenized(problems, Stub(), encode, 2, 1)
    assert (whole.prompts, whole.answers, whole.prompts_cut, whole.answers_cut) == (4, 8, 0, 0)
    assert (whole.too_long, whole.unrendered, whole.changed, whole.eos_within) == (2, 1, 1, 1)
    told = {name: whole.first[name] for name in ("eos_within", "too_long", "changed", "unrendered")}
    assert told == {"eos_within": "p0", "too_long": "p0", "changed": "p1", "unrendered": "p2"}
    assert (cut.prompts_cut, cut.answers_cut, cut.too_long) == (2, 8, 0) and cut.first["cut"] == "p0"
    assert any(
        "1 prompts cannot be rendered by the model's chat template, such as 'p2'" in one for one in whole.lines()
    )
    assert inspect(problems).ties == 4
