"""A run whose chat template writes the date asks the same prompts on every day on which it goes on or is looked at."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

import klimb
from klimb import examine, rollouts, start
from klimb.cli import evaluating
from klimb.cli.places import place
from klimb.config import resolve
from klimb.errors import DataError, RunError
from klimb.policy import reward_head
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.recipe import Recipe
from klimb.rundir import RunDir
from tests.faults.runs import content

TEMPLATE = (
    "{{ bos_token }}{{ strftime_now('%d %b %Y') }}\n{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
)


class Later(datetime):
    """A clock that is three days ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> Later:
        ahead = datetime.now(tz) + timedelta(days=3)
        return cls(ahead.year, ahead.month, ahead.day, tzinfo=ahead.tzinfo)

    def astimezone(self, tz: Any = None) -> Later:
        return self


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder whose template writes the date, and pairs beside it."""
    rows = [{"prompt": f"{n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    policy = load(PolicySettings(name="tiny", tiny={"hidden": 32}))
    policy.tokenizer.chat_template = TEMPLATE
    policy.save(tmp_path / "model")
    return tmp_path / "model"


def recipe(at: Path, **changes: Any) -> Recipe:
    settings = {
        "model": {"name": str(at)}, "objective": {"type": "dpo"}, "source": {"type": "pairs", "prompts": 4},
        "data": {"type": "preferences", "path": str(at.parent / "pairs.jsonl"), "share": 0.5},
        "optimizer": {"type": "adamw", "lr": 0.01, "warmup": 0, "schedule": "constant"}, "training": {"steps": 2},
        "sampling": {"max_tokens": 4}, "evaluation": {"every": 1, "win": {"type": "length", "most": 1}},
        "checkpoints": {"every": 1},
    }  # fmt: skip
    return resolve(Recipe, {**settings, **changes})


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    monkeypatch.setattr(start, "datetime", Later)


def test_a_run_goes_on_is_evaluated_and_is_forked_with_the_date_on_which_it_began(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = klimb.train(recipe(model), run=tmp_path / "whole")
    run, today = tmp_path / "run", datetime.now().astimezone().date()
    klimb.train(recipe(model, training={"steps": 1}), run=run)
    kept = RunDir.open(run).settings()["model"]["date"]
    assert kept == today.isoformat()
    later(monkeypatch)
    parts = klimb.train(recipe(model), run=run)
    assert content(run) == content(tmp_path / "whole") and parts.after == whole.after
    (asked, *_) = rollouts.read(RunDir.open(run).rollout(2))
    text = load(PolicySettings()).tokenizer.decode(list(asked.prompt.tokens))
    assert text.startswith(f"<bos>{today:%d %b %Y}\n")
    for given in (None, str(written(recipe(model), tmp_path))):
        where = place(str(run))
        found = examine.measure(evaluating.settings_of(where, [], given), step=where.step, before=where.before)
        assert found.won.items() <= parts.after.items() and found.won["eval/win_n"] > 0
    fork = klimb.train(recipe(model, training={"steps": 3}), run=tmp_path / "fork", fork=f"{run}@2")
    assert RunDir.open(fork.path).settings()["model"]["date"] == kept and fork.after["eval/win_failed"] == 0
    klimb.train(recipe(model, training={"steps": 1}), run=tmp_path / "other")
    assert RunDir.open(tmp_path / "other").settings()["model"]["date"] == (today + timedelta(days=3)).isoformat()
    with pytest.raises(RunError, match=r"model\.date: "):
        klimb.train(recipe(model, model={"name": str(model), "date": "2020-02-02"}), run=run)


def written(settings: Recipe, folder: Path) -> Path:
    """The recipe as a file."""
    file = folder / "recipe.yaml"
    file.write_text(settings.model_dump_json(exclude_unset=True), "utf-8")
    return file


def test_a_run_that_kept_no_date_has_that_of_its_first_event(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    klimb.train(recipe(model), run=tmp_path / "whole")
    run = RunDir(tmp_path / "run")
    klimb.train(recipe(model, training={"steps": 1}), run=run.path)
    config = run.config()
    kept = config["settings"]["model"].pop("date")
    run.config_file.write_text(json.dumps(config), "utf-8")
    later(monkeypatch)
    klimb.train(recipe(model), run=run.path)
    assert content(run.path) == content(tmp_path / "whole") and run.config()["settings"]["model"]["date"] == kept


def test_prompts_that_were_asked_in_other_tokens_are_counted_as_failed_and_said(model: Path, tmp_path: Path) -> None:
    run = klimb.train(recipe(model), run=tmp_path / "run")
    where, words = place(str(run.path)), ["model.date=2020-02-02"]
    settings = evaluating.settings_of(where, words, None)
    with pytest.raises(
        DataError, match=r"each of the \d held-out prompts that are there has other tokens.*model\.date"
    ):
        examine.measure(settings, step=where.step, before=where.before)
    for folder in RunDir.open(run.path).checkpoints.iterdir():
        shutil.rmtree(folder) if folder.name != "step-000001" else None
    old = RunDir.open(run.path)
    first = rollouts.read(old.evaluation(0))
    rollouts.write(old.evaluation(0), [*first[:1], *(_spoiled(group) for group in first[1:])], 0)
    again = klimb.train(recipe(model), run=run.path)
    assert again.after["eval/win_failed"] == len(first) - 1 and again.after["eval/win_n"] == 1


def _spoiled(group: klimb.types.Group) -> klimb.types.Group:
    """The same prompt in other tokens."""
    return replace(group, prompt=replace(group.prompt, tokens=(*group.prompt.tokens, 9)))


def test_a_reward_model_keeps_the_date_that_it_was_trained_with(model: Path, tmp_path: Path) -> None:
    changed = {"objective": {"type": "bradley_terry"}, "evaluation": {}, "training": {"steps": 1}}
    result = klimb.train(recipe(model, **changed), run=tmp_path / "run")
    kept = reward_head.read(result.model).date
    assert kept is not None and kept.isoformat() == RunDir.open(result.path).settings()["model"]["date"]


@pytest.mark.parametrize("asks", [True, False])
def test_a_reward_model_is_another_on_another_day_only_where_its_template_asks_for_the_day(
    asks: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not asks:
        (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}", "utf-8")
    changed = {"objective": {"type": "bradley_terry"}, "evaluation": {}, "training": {"steps": 1}}
    first = klimb.train(recipe(model, **changed), run=tmp_path / "first")
    later(monkeypatch)
    second = klimb.train(recipe(model, **changed), run=tmp_path / "second")
    assert first.path != second.path and (reward_head.read(first.model).date is not None) == asks
    files = [{file.name: file.read_bytes() for file in one.model.iterdir()} for one in (first, second)]
    other = {name for name in files[0] if files[0][name] != files[1].get(name)}
    assert other == ({"config.json", "model.safetensors"} if asks else set())
