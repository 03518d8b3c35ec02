"""Where preference rows come from: two files, a set on the hub by name, and the published sets in their recipes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from klimb.data.preferences import Preferences
from klimb.errors import DataError
from klimb.recipe import Recipe, load_recipe
from klimb.types import Message, Reply
from tests.data.test_preferences import said


def test_files_of_one_name_in_two_folders_keep_their_own_answers(tmp_path: Path) -> None:
    files = [tmp_path / side / "pairs.jsonl" for side in ("a", "b")]
    for path in files:
        path.parent.mkdir()
        rows = [
            {"prompt": f"{path.parent.name}{n}", "chosen": f"{path.parent.name}+{n}", "rejected": "-"} for n in (1, 2)
        ]
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    made = Preferences(path=files[0], held_out=files[1]).open()
    told = {one.messages[0].content: made.given[one.id][0].text for one in (*made.train, *made.held_out)}
    assert told == {"a1": "a+1", "a2": "a+2", "b1": "b+1", "b2": "b+2"}
    assert [one.id for one in made.train] == ["pairs:1", "pairs:2"]
    other = files[1].rename(tmp_path / "b" / "rest.jsonl")
    assert [one.id for one in Preferences(path=files[0], held_out=other).open().held_out] == ["rest:1", "rest:2"]


def test_a_hub_set_by_name_gives_the_pairs_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*words: Any, **more: Any) -> list[dict[str, Any]]:
        asked.append((*words, more["split"]))
        start = {"role": "user", "content": more["split"]}
        return [{"prompt": more["split"], "chosen": [start, said("a")], "rejected": [start, said("b")], "s": 4.5}]

    monkeypatch.setitem(__import__("sys").modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    names = {"type": "hub-preferences", "repository": "someone/feed.v2", "split": "one", "held_out": "two"}
    settings = {"objective": {"type": "dpo"}, "source": {"type": "pairs"}, "model": {"name": "tiny"}}
    recipe = Recipe.model_validate(settings | {"data": {**names, "scores": ["s", "s"]}})
    made = recipe.data.open()
    assert recipe.faults() == [] and asked == [("someone/feed.v2", None, "one"), ("someone/feed.v2", None, "two")]
    assert [[one.messages for one in side] for side in (made.train, made.held_out)] == [
        [(Message("user", "one"),)],
        [(Message("user", "two"),)],
    ]
    assert made.given == {one: (Reply("a", True, 4.5), Reply("b", False, 4.5)) for one in ("feed:1", "held/feed:1")}
    with pytest.raises(DataError, match=r"someone/feed\.v2\[one\], row 1: no field 'better'"):
        Recipe.model_validate(settings | {"data": {**names, "chosen": "better"}}).data.open()


@pytest.mark.parametrize("name", ["dpo-ultrafeedback", "reward-model-pandalm", "reward-model-llmbar"])
def test_recipes_of_published_sets_open_their_data(
    name: str, root: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared_data.parents[1] / "shared")
    recipe = load_recipe(root / f"recipes/{name}.yaml")
    made = recipe.data.open()
    assert recipe.faults() == [] and len(made.train) >= 85 and len(made.held_out) >= 10
    assert all([reply.chosen for reply in replies] == [True, False] for replies in made.given.values())


@pytest.mark.parametrize(
    ("file", "settings", "least"),
    [
        ("hh-rlhf-harmless/test.jsonl.gz", {"rows": "hh"}, 2300),
        ("pandalm/pandalm_testset-v1.json", {"rows": "pandalm"}, 800),
        ("llmbar/llmbar_LLMBar_Natural.json", {"rows": "llmbar"}, 100),
        ("ultrafeedback-sample/eval_200.jsonl", {"scores": ["metadata.score_chosen", "metadata.score_rejected"]}, 200),
    ],
)
def test_real_files_open(file: str, settings: dict[str, Any], least: int, shared_data: Path) -> None:
    made = Preferences.model_validate({"path": shared_data / file, "skip": True, **settings}).open()
    assert len(made.train) + len(made.held_out) >= least
    assert all(len(replies) == 2 for replies in made.given.values())
