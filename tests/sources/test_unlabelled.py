"""Prompts without answers in a file of their own: who asks them, when, and what a bad file costs."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import klimb
from klimb.batch import Batch
from klimb.cli.arithmetic import arithmetic
from klimb.data.base import Problems
from klimb.data.preferences import Preferences
from klimb.errors import DataError
from klimb.faults import collect
from klimb.objectives import HyPO
from klimb.recipe import Recipe
from klimb.rollouts import read
from klimb.rundir import RunDir
from klimb.session import problems_of
from klimb.sources.mixture import Mixture
from klimb.sources.unlabelled import Unlabelled
from klimb.types import Message, Prompt
from tests.sources.test_given import supplies

FURTHER = [Prompt(f"u{index}", tokens=(1, 20 + index)) for index in range(3)]


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "more.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def asked(settings: Mixture, step: int = 1) -> list[tuple[str, int]]:
    """The prompt and the number of rows of each group."""
    groups = settings.open(replace(supplies(), unlabelled=FURTHER)).groups(step)
    return [(group.prompt.id, len(group.rollouts)) for group in groups]


def mixture(**settings: Any) -> Mixture:
    return Mixture(prompts=2, fresh=3, unlabelled=Unlabelled(path=Path("more.jsonl"), **settings))


def test_samples_are_drawn_for_unlabelled_prompts_beside_those_of_the_pairs_or_alone() -> None:
    plain, both, alone = asked(Mixture(prompts=2, fresh=3)), asked(mixture()), asked(mixture(alone=True, prompts=4))
    assert both[:4] == plain and [count for _, count in both] == [2, 2, 3, 3, 3, 3]
    assert alone[:2] == plain[:2] and {name for name, _ in alone[2:]} == {"u0", "u1", "u2"} and len(alone) == 6
    assert [one.sampled(1) for one in (Mixture(prompts=2), mixture(), mixture(alone=True, prompts=4))] == [2, 4, 4]


def test_each_pass_over_the_file_asks_every_prompt_once_and_no_draw_is_made_twice() -> None:
    seen = [name for step in range(1, 7) for name, _ in asked(mixture(alone=True, prompts=1), step)[2:]]
    assert sorted(seen[:3]) == sorted(seen[3:]) == ["u0", "u1", "u2"]
    opened = mixture(alone=True, prompts=6).open(replace(supplies(), unlabelled=FURTHER))
    assert len({row.seed for group in opened.groups(1)[2:] for row in group.rollouts}) == 18


def test_all_samples_weigh_the_same_and_together_as_much_as_the_pairs() -> None:
    groups = mixture().open(replace(supplies(), unlabelled=FURTHER)).groups(1)
    weight = HyPO().weighting(Batch.of(groups)).tolist()  # tokens: yes., never., one a sample
    assert sum(weight[:20]) == pytest.approx(0.5) and weight[20:] == pytest.approx([0.5 / 12] * 12)


def test_a_file_is_read_as_the_data_put_their_own_and_what_is_held_out_is_left_out(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Name  a colour."}]
    path = file_of(tmp_path, {"prompt": "Hi", "x": 1}, {"prompt": chat}, {"prompt": "Add 1 and 2."})
    packed = tmp_path / "more.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    held = (Prompt("h", messages=(Message("system", "Be brief."), Message("user", "Q: Add 1  and 2."))),)
    data = Preferences(path=Path("none"), frame="Q: {question}", system="Be brief.")
    for file in (path, packed):
        found = Unlabelled(path=file).read(data, Problems((), held))
        assert [prompt.id for prompt in found] == ["unlabelled/more:1", "unlabelled/more:2"]
        assert [turn.content for turn in found[0].messages] == ["Be brief.", "Q: Hi"]
        assert found[1].messages[-1].content == "Name  a colour."


def recipe(path: Path, **more: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "model": {"name": "tiny", "tiny": {"hidden": 16}},
            "data": {"type": "echo-pairs", "train": 8, "held_out": 2},
            "objective": {"type": "hypo"},
            "source": {"type": "mixture", "prompts": 2, "unlabelled": {"path": path, "prompts": 3}, **more},
            "sampling": {"max_tokens": 2},
            "training": {"steps": 2},
            "evaluation": {"every": 2, "problems": 2, "start": False},
        }
    )


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{"prompt": "a"}, {"prompt": ""}, {"question": "b"}], r"2 faults:\n.*row 2.*\n.*row 3.*no such field"),
        ([], "prompts in .*more.jsonl .*none"),
        (None, "no such file"),
        ("held", "1, all of them held out"),
    ],
)
def test_a_bad_file_is_one_error_before_any_work(rows: Any, found: str, tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    held = recipe(path).data.open().held_out[0]
    if rows is not None:
        file_of(tmp_path, *([{"prompt": held.text or held.messages[-1].content}] if rows == "held" else rows))
    with pytest.raises(DataError, match=found):
        klimb.train(recipe(path), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_prompt_too_long_for_the_model_is_named_and_the_arithmetic_counts_the_file(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"prompt": "x" * 600})
    with pytest.raises(DataError, match="unlabelled/more:1"):
        klimb.train(recipe(path), run=tmp_path / "run")
    step, *_, data, _, _, _ = arithmetic(recipe(path))
    assert "5 prompts x 2 completions = 10 rows" in step and data.endswith("2 held out; 1 unlabelled")


def test_another_file_is_other_data_and_none_is_as_before(tmp_path: Path) -> None:
    found = [problems_of(recipe(file_of(tmp_path, {"prompt": prompt}))) for prompt in "aba"]
    first, other, again = (problems.fingerprint() for problems in found)
    assert first == again != other
    assert replace(found[0], unlabelled=()).fingerprint() == recipe(tmp_path).data.open().fingerprint() != first


def test_minibatches_that_could_be_without_a_pair_are_refused(tmp_path: Path) -> None:
    (fault,) = collect(recipe(tmp_path, minibatches=2))
    assert "minibatches" in fault.asked and "source.minibatches=1" in fault.cure
    assert list(collect(recipe(tmp_path, epochs=2))) == []


def test_a_run_asks_the_policy_the_files_prompts(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"prompt": "qq"}, {"prompt": "ww"})
    klimb.train(recipe(path, unlabelled={"path": path, "alone": True}), run=tmp_path / "run")
    groups = read(RunDir(tmp_path / "run").rollout(1))
    names = [group.prompt.id for group in groups]
    assert len(names) == 4 and sorted(names)[2:] == ["unlabelled/more:1", "unlabelled/more:2"]
