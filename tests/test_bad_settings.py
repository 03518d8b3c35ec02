"""Wrong settings end in one clear message with the path and a cure, exit code 2, before torch is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from klimb.nearest import ELSEWHERE
from klimb.recipe import Recipe
from klimb.schema import leaves

GOOD = """\
model: {name: tiny}
data: {type: echo-digit}
rewards:
  - {type: exact}
objective: {type: grpo}
source: {prompts: 4, completions: 4}
sampling: {max_tokens: 2}
training: {steps: 2}
"""


class Case(NamedTuple):
    """What is wrong: words over a good recipe, or a text in its place; and what the message must hold."""

    words: str = ""
    text: str | None = None
    holds: tuple[str, ...] = ()


def swapped(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


CASES = {
    "a misspelt section": Case("objectve.type=grpo", holds=("objectve is not a setting", "try: objective")),
    "a misspelt key": Case("source.promts=3", holds=("source.promts is not a setting", "try: source.prompts")),
    "a key with dashes": Case("source.promp-ts=3", holds=("source.promp-ts", "source.prompts")),
    "a key in capitals": Case("optimizer.LR=1e-3", holds=("optimizer.LR is not a setting", "try: optimizer.lr")),
    "a key of another section": Case("model.lr=1e-3", holds=("model.lr is not a setting", "try: optimizer.lr")),
    "a key at the top": Case("max_tokens=3", holds=("max_tokens is not a setting", "sampling.max_tokens")),
    "what TRL calls it": Case("learning_rate=1e-3", holds=("learning_rate is not a setting", "try: optimizer.lr")),
    "what TRL calls it, within": Case("source.num_generations=3", holds=("try: source.completions",)),
    "a key in no section": Case("optimizer.zzz=3", holds=("optimizer.zzz", "optimizer: type, lr")),
    "text for a number": Case(
        "optimizer.lr=fast", holds=("optimizer.lr must be a number", "the text fast", "the default")
    ),
    "a quoted number": Case('optimizer.lr="1e-3"', holds=("optimizer.lr", "without quotes: optimizer.lr: 1e-3")),
    "true for a number": Case("optimizer.lr=true", holds=("optimizer.lr must be a number", "found: true")),
    "null for a number": Case("optimizer.lr=null", holds=("optimizer.lr must be a number", "found: null")),
    "a list for a number": Case("optimizer.lr=[1]", holds=("optimizer.lr must be a number", "found: [1]")),
    "not a number": Case("optimizer.lr=.nan", holds=("optimizer.lr must be a number", "nan")),
    "infinity": Case("optimizer.eps=.inf", holds=("optimizer.eps must be a number", "inf")),
    "below its range": Case(
        "optimizer.lr=-1", holds=("optimizer.lr must be a number from 0 to 1", "found: the number -1")
    ),
    "above its range": Case("sampling.top_p=1.5", holds=("sampling.top_p must be a number above 0 and at most 1",)),
    "zero where one is least": Case("training.steps=0", holds=("training.steps", "at least 1", "training.steps=")),
    "a broken number": Case("training.steps=1.5", holds=("training.steps must be a whole number", "1.5")),
    "a whole number as decimal": Case("training.steps=3.0", holds=("training.steps", "try: training.steps=3")),
    "a number far too long": Case("training.steps=" + "9" * 5000, holds=("5000 digits", "a shorter number")),
    "a number beyond its bound": Case("seed=" + "9" * 30, holds=("seed must be a whole number", "9999")),
    "yes for a boolean": Case(
        "model.checkpointing=yes", holds=("model.checkpointing must be true or false", "the text yes")
    ),
    "one for a boolean": Case("model.checkpointing=1", holds=("model.checkpointing must be true or false",)),
    "a wrong choice": Case("model.precision=float31", holds=("model.precision", "model.precision=float32", "bfloat16")),
    "a choice like none": Case("model.precision=zzz", holds=("model.precision", "one of: auto, bfloat16, float32")),
    "an unknown type": Case(
        "objective.type=gpro", holds=("objective.type", "the text gpro", "objective.type=grpo", "rpg")
    ),
    "an unknown type of reward": Case("rewards.0.type=exakt", holds=("rewards.0.type", "rewards.0.type=exact")),
    "a type that is a number": Case("objective.type=3", holds=("objective.type", "the number 3", "one of:")),
    "a section as a word": Case("objective=grpo", holds=("objective must be a section", "objective={type: grpo}")),
    "a section as a list": Case("optimizer=[1]", holds=("optimizer must be a section", "found: [1]")),
    "a section as null": Case("sampling=null", holds=("sampling must be a section", "found: null")),
    "a setting of another type": Case("objective.form=reinforce", holds=("objective.form", "belongs to type rpg")),
    "a list that is none": Case("sampling.stop=END", holds=("sampling.stop must be a list", "sampling.stop=[END]")),
    "a list of wrong things": Case("sampling.stop=[1]", holds=("sampling.stop.0 must be text", "in quotes")),
    "a pair of three": Case("optimizer.betas=[0.1,0.2,0.3]", holds=("optimizer.betas must be a list",)),
    "a pair of one": Case("optimizer.betas=[0.1]", holds=("optimizer.betas.1 must be given",)),
    "no rewards": Case("rewards=[]", holds=("found: no rewards", "at least one in rewards")),
    "a reward without a type": Case(
        text=swapped("- {type: exact}", "- {weight: 2}"), holds=("rewards.0.type must be given", "exact", "line 4")
    ),
    "an element too far": Case("rewards.7.weight=2", holds=("rewards is a list of 1", "from 0 to 1")),
    "an element by name": Case("rewards.exact.weight=2", holds=("rewards is a list of 1",)),
    "a word without =": Case("--dry-run optimizer.lr", holds=("must be key=value", "optimizer.lr=VALUE")),
    "a word without a key": Case("=3", holds=("must be key=value", "the key ``")),
    "a word with empty parts": Case("a..b=3", holds=("must be key=value",)),
    "a word below a value": Case("seed.x=3", text=GOOD + "seed: 4\n", holds=("needs the section seed", "found: 4")),
    "a word with an open bracket": Case("sampling.stop=[a", holds=("is not YAML", "close the bracket")),
    "a word with dashes": Case("--optimizer.lr=3", holds=("optimizer.lr=3 without dashes",)),
    "an unknown option": Case("--dri-run", holds=("--dri-run", "klimb train --help")),
    "a missing section": Case(text=swapped("model: {name: tiny}\n", ""), holds=("model must be given",)),
    "an empty file": Case(text="", holds=("recipe.yaml must hold settings", "nothing but blanks")),
    "only comments": Case(text="# hello\n\n", holds=("recipe.yaml must hold settings",)),
    "a list at the top": Case(text="- a\n- b\n", holds=("must be a mapping", "a list")),
    "one word": Case(text="hello\n", holds=("must be a mapping", "a single value")),
    "a tab": Case(text="model:\n\tname: tiny\n", holds=("recipe.yaml:2:1 is not YAML", "not with tabs")),
    "a key twice": Case(text=GOOD + "seed: 1\nseed: 2\n", holds=("recipe.yaml:10:1: seed stands twice", "line 9")),
    "a key twice within": Case(text=GOOD + "optimizer: {lr: 1, lr: 2}\n", holds=("optimizer.lr stands twice",)),
    "a colon in a value": Case(text="model: a: b\n", holds=("recipe.yaml:1:9 is not YAML", "in quotes")),
    "an open quote": Case(text=GOOD + 'run: "abc\n', holds=("is not YAML", "close the quote")),
    "two documents": Case(text=GOOD + "---\nseed: 1\n", holds=("is not YAML", "take the second `---` out")),
    "a Python object": Case(
        text=GOOD + "run: !!python/name:os.system ''\n", holds=("recipe.yaml:9:6", "tag", "take the tag out")
    ),
    "a number as a key": Case(text=GOOD + "1: 2\n", holds=("the name of a setting must be text", "found: 1")),
    "a dotted key": Case(text=GOOD + "optimizer.lr: 1\n", holds=("optimizer.lr", "as a section", "line 9")),
    "an unknown alias": Case(text=GOOD + "run: *home\n", holds=("is not YAML", "in quotes")),
    "a control character": Case(text=GOOD + "run: a\x00b\n", holds=("recipe.yaml:9 is not YAML", "U+0000")),
    "laughs by the billion": Case(
        text="a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
        holds=("is not a recipe", "over 20000 values"),
    ),
    "an alias of itself": Case(text="a: &a [*a]\n", holds=("is not a recipe", "over 50 levels")),
    "a thousand brackets": Case(text="a: " + "[" * 5000, holds=("recipe.yaml", "levels")),
    "a huge file": Case(text="# " + "x" * 300_000, holds=("too large for a recipe", "256 KiB")),
    "escape codes in a value": Case("model.precision=\x1b[31mred", holds=("model.precision",)),
    "a weight of nothing": Case("rewards.0.weight=0", holds=("every reward has weight 0",)),
    "two rewards of one name": Case("rewards.1.type=exact", holds=("2 sources named 'exact'", "rewards.N.name")),
    "a lone completion": Case("source.completions=1", holds=("completions", "source.completions=2 or more")),
}

RUNNER = """
import contextlib, io, json, pathlib, sys
from klimb.cli import main
answers = []
for index, (text, words) in enumerate(json.load(sys.stdin)):
    folder = pathlib.Path(str(index)); folder.mkdir()
    path = folder / "recipe.yaml"; path.write_bytes(text.encode())
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["train", str(path), *words])
        except SystemExit as stop:
            code = stop.code
    heavy = sorted({"torch", "transformers"} & set(sys.modules))
    answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue(), "heavy": heavy})
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `klimb train` answers to each case, all in one process that never had torch."""
    given = [
        (GOOD if case.text is None else case.text, case.words.split(" ") if case.words else [])
        for case in CASES.values()
    ]
    given = [(text, [*words, "--dry-run"] if "--dry-run" not in words else words) for text, words in given]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(given),
        cwd=tmp_path_factory.mktemp("bad"),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_wrong_settings_are_told_with_path_and_cure(name: str, answers: dict[str, dict[str, Any]]) -> None:
    answer, case = answers[name], CASES[name]
    assert answer["code"] == 2, answer
    for part in case.holds:
        assert part in answer["err"]
    assert "try: " in answer["err"]
    assert answer["err"].startswith("klimb: ")
    assert "Traceback" not in answer["err"] + answer["out"]
    assert "\x1b" not in answer["err"]
    assert len(answer["err"]) < 1500
    assert answer["heavy"] == []


def test_every_name_of_other_trainers_leads_to_a_setting() -> None:
    paths = set(leaves(Recipe))
    assert [target for target in ELSEWHERE.values() if target not in paths] == []


def test_the_good_recipe_of_the_table_is_good(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    done = klimb("train", "good.yaml", "--dry-run", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 prompts x 4 completions = 16 rows" in done.stdout


def test_every_fault_of_file_and_words_comes_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(GOOD + "optimizer: {lr: -1, clip: x}\nsede: 3\n")
    done = klimb("train", "bad.yaml", "source.promts=3", "nonsense", folder=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "klimb: 5 faults"
    assert len(lines) == 6
    for path in ("optimizer.lr", "optimizer.clip", "sede", "source.promts", "nonsense"):
        assert any(path in line for line in lines[1:]), path
    assert "line 9 of bad.yaml" in done.stderr
    assert "given as a word" in done.stderr


def test_a_missing_recipe_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "sums.yaml").write_text(GOOD)
    done = klimb("train", "smus", folder=tmp_path)
    assert done.returncode == 2
    assert "sums?" in done.stderr
    found = klimb("train", "sums", "--dry-run", folder=tmp_path)
    assert found.returncode == 0


@pytest.mark.parametrize("kind", ["a folder", "a UTF-16 file", "a picture"])
def test_what_is_no_text_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    if kind == "a folder":
        path.mkdir()
    else:
        path.write_bytes(GOOD.encode("utf-16") if kind == "a UTF-16 file" else b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    done = klimb("train", "recipe.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert "try: " in done.stderr
    assert {"a folder": "a folder", "a UTF-16 file": "UTF-16", "a picture": "0x89"}[kind] in done.stderr
    assert "Traceback" not in done.stderr


def klimb(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A true `klimb` process."""
    return subprocess.run(
        [sys.executable, "-m", "klimb.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
