"""What holds for every selector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from klimb import functional as F
from klimb.batch import Batch
from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.objectives.dapo import DAPO
from klimb.recipe import Recipe
from klimb.selection import Above, AnySelector, Bottom, Custom, Random, Selector, Top
from klimb.selection.base import EntropyOf, Share
from klimb.training.selecting import parts_of
from klimb.training.weighing import weigh
from klimb.types import Completion, Finish, Group, Prompt, Rollout
from tests.selection.kit import EVERY, SHARES, named, reordered, selector_of, some

each = pytest.mark.parametrize("selector", EVERY, ids=named)
each_share = pytest.mark.parametrize("selector", SHARES, ids=named)


@each
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_only_learning_tokens_are_kept_and_what_does_not_learn_changes_nothing(selector: Selector, seed: int) -> None:
    whole = some(seed)
    keep = selector.keep(whole)
    assert keep.dtype == torch.bool
    assert not (keep & ~whole.learn).any()
    assert whole.entropy is not None
    loud = torch.where(whole.learn, whole.entropy, torch.full_like(whole.entropy, 50.0))
    assert torch.equal(selector.keep(whole.replace(entropy=loud)), keep)


@each_share
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_exactly_the_ceiling_of_the_share_is_kept(selector: Share, seed: int) -> None:
    whole = some(seed)
    keep = selector.keep(whole)
    pools = [whole.row == row for row in range(whole.rows)] if selector.population == "row" else [whole.row >= 0]
    for pool in pools:
        assert int(keep[pool].sum()) == F.selection.size(selector.share, int(whole.learn[pool].sum()))


@each
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_the_order_of_rows_changes_nothing(selector: Selector, seed: int) -> None:
    whole = some(seed)
    other, tokens = reordered(whole, seed)
    assert torch.equal(selector.keep(other), selector.keep(whole)[tokens])


@each
def test_the_cut_into_micro_batches_changes_nothing(selector: Selector) -> None:
    whole = DAPO().advantage(some(8))
    keep = selector.keep(whole)
    for tokens in (1, 12, 30):
        chosen = weigh(whole, DAPO(), selector, tokens)
        assert len(list(chosen.split(tokens))) > 1
        assert torch.equal(torch.cat([part.learn for part in chosen.split(tokens)]), keep)


@pytest.mark.parametrize("kind", [Top, Bottom, Random])
def test_a_micro_batch_population_is_the_share_of_each_micro_batch(kind: type[Share]) -> None:
    whole = some(5)
    parts = parts_of(whole, 20)
    assert int(parts.max()) > 2
    keep = kind(share=0.3, population="micro").keep(whole, parts)
    for number, part in enumerate(whole.split(20)):
        inside = parts == number
        assert torch.equal(whole.tokens[inside], part.tokens)
        assert int(keep[inside].sum()) == F.selection.size(0.3, int(part.learn.sum()))
    with pytest.raises(ValueError, match="micro-batch of each token"):
        kind(population="micro").keep(whole)


@pytest.mark.parametrize("selector", [Random(share=0.3), Top(share=0.3), Bottom(share=0.3, population="row")])
def test_answers_of_an_old_log_without_seeds_are_named_by_what_they_are(selector: Share) -> None:
    """Rows whose seeds are all -1 must neither share their dice nor take them from the row order."""
    done = Completion((1,) * 10, (-1.0,) * 10, "", Finish.EOS, (0.5,) * 10)
    made = [
        Group(Prompt(name, text=name, tokens=(1,)), tuple(Rollout(done, k, -1, {}, 1.0) for k in range(4)))
        for name in "abcde"
    ]
    first, turned = Batch.of(made), Batch.of(made[::-1])
    kept = selector.keep(first).view(5, 4, 10)
    assert torch.equal(selector.keep(turned).view(5, 4, 10).flip(0), kept)
    assert len({tuple(row) for row in kept.view(20, 10).tolist()}) > 10
    assert first.key is not None and int(first.key.min()) >= 0 and first.key.unique().numel() == 20


def test_top_takes_the_highest_entropies_and_bottom_the_lowest() -> None:
    whole = some(3)
    assert whole.entropy is not None
    top, bottom = Top(share=0.3), Bottom(share=0.3)
    high, low = top.keep(whole), bottom.keep(whole)
    assert whole.entropy[high].min() >= whole.entropy[whole.learn & ~high].max()
    assert whole.entropy[low].max() <= whole.entropy[whole.learn & ~low].min()
    assert top.threshold(whole.entropy, high) == float(whole.entropy[high].min())
    assert bottom.threshold(whole.entropy, low) == float(whole.entropy[low].max())
    nothing = torch.zeros_like(high)
    assert top.threshold(whole.entropy, nothing) is bottom.threshold(whole.entropy, nothing) is None


def test_random_depends_on_its_seed_and_not_on_entropies() -> None:
    whole = some(3, rows=40)
    first = Random().keep(whole)
    assert torch.equal(first, Random().keep(whole.replace(entropy=None)))
    assert not torch.equal(first, Random(seed=1).keep(whole))
    assert Random().threshold(torch.zeros(1), torch.ones(1, dtype=torch.bool)) is None


def test_above_keeps_what_is_at_the_threshold_and_over_it() -> None:
    whole = some(3)
    assert whole.entropy is not None
    at = float(whole.entropy[whole.learn].median())
    keep = Above(at=at).keep(whole)
    assert torch.equal(keep, whole.learn & (whole.entropy >= at))
    assert Above(at=at).threshold(whole.entropy, keep) == at
    assert not Above(at=9.0).keep(whole).any()


def test_rows_without_a_name_are_told_apart_by_where_they_stand() -> None:
    whole = some(4).replace(key=None)
    keep = Random(share=0.4).keep(whole)
    assert int(keep.sum()) == F.selection.size(0.4, int(whole.learn.sum()))


@pytest.mark.parametrize("kind", [Top, Bottom, Above])
def test_a_selector_by_entropy_says_that_there_is_none(kind: type[Selector]) -> None:
    with pytest.raises(ValueError, match="no `entropy`"):
        kind(**({"at": 1.0} if kind is Above else {})).keep(some().replace(entropy=None))


@each
def test_settings_survive_a_json_round_trip(selector: Selector) -> None:
    text = selector.model_dump_json()
    assert selector_of(**json.loads(text)) == selector


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"type": "top", "share": 0.0}, "share"),
        ({"type": "top", "share": 1.5}, "share"),
        ({"type": "top", "quantile": 0.2}, "quantile"),
        ({"type": "bottom", "population": "sequence"}, "population"),
        ({"type": "random", "entropy": {"of": "current"}}, "entropy"),
        ({"type": "above"}, "at"),
        ({"type": "top", "entropy": {"of": "old"}}, "of"),
        ({"type": "best"}, "type"),
    ],
)
def test_settings_that_mean_nothing_are_refused(bad: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        TypeAdapter(AnySelector).validate_python(bad)


def test_another_temperature_needs_the_current_policy() -> None:
    fault = EntropyOf(temperature=2.0).faults()[0]
    assert fault.cure == "entropy.of=current"
    assert EntropyOf(of="current", temperature=2.0).faults() == EntropyOf().faults() == []


def test_a_users_own_function_selects(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def keep(batch, at):\n    return batch.entropy > at\n")
    chosen = selector_of(type="custom", path=f"{file}:keep", settings={"at": 0.7}, entropy={"of": "sampling"})
    whole = some(2)
    assert whole.entropy is not None
    assert torch.equal(chosen.keep(whole), whole.learn & (whole.entropy > 0.7))
    assert isinstance(chosen, Custom)
    assert chosen.ranks_by == EntropyOf()
    with pytest.raises(SettingsError, match=r"batch\.entropy is None: selector\.entropy is null"):
        chosen.keep(whole.replace(entropy=None))


def test_a_users_own_function_that_reads_no_entropy_goes_with_a_generator_that_gives_none(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def keep(batch):\n    return batch.tokens > 3\n")
    recipe = yaml.safe_load((Path(__file__).resolve().parents[2] / "recipes" / "tiny.yaml").read_text("utf-8"))
    recipe |= {"generator": {"type": "http", "url": "http://localhost:1"}}
    recipe |= {"training": {"correction": {"type": "truncate"}}}
    own = {"type": "custom", "path": f"{file}:keep"}
    assert resolve(Recipe, recipe | {"selector": own}).selector.ranks_by is None
    bare = some(2).replace(entropy=None)
    assert torch.equal(selector_of(**own).keep(bare), bare.learn & (bare.tokens > 3))
    with pytest.raises(SettingsError, match="no entropies"):
        resolve(Recipe, recipe | {"selector": own | {"entropy": {}}})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("keep = 3\n", "'keep' is int"),
        ("x = 1\n", "'keep' is NoneType"),
        ("import nowhere_at_all\n", "ModuleNotFoundError"),
        (None, "no file"),
    ],
)
def test_a_file_without_the_function_is_a_fault_of_the_settings(tmp_path: Any, text: str | None, word: str) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValidationError, match=word):
        selector_of(type="custom", path=f"{file}:keep")


@pytest.mark.parametrize(
    ("body", "word"),
    [("batch.learn.long()", "torch.int64"), ("batch.learn[:1]", r"\(1,\)"), ("[1]", "list"), ("1 / 0", "ZeroDivision")],
)
def test_what_a_users_function_gives_is_checked(tmp_path: Any, body: str, word: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"def keep(batch):\n    return {body}\n")
    with pytest.raises(Exception, match=word) as caught:
        selector_of(type="custom", path=f"{file}:keep").keep(some())
    assert "try: return a torch.bool tensor" in str(caught.value)


def test_the_base_selects_nothing_by_itself() -> None:
    with pytest.raises(NotImplementedError):
        Selector(type="none").keep(some())


def test_a_kl_inside_a_clip_must_be_said_to_be_of_kept_tokens() -> None:
    settings = yaml.safe_load((Path(__file__).resolve().parents[2] / "recipes" / "tiny-rpg.yaml").read_text("utf-8"))
    with pytest.raises(SettingsError, match=r"selector.kl=kept, or objective.kl=outside"):
        resolve(Recipe, settings | {"selector": {"type": "top"}})
    assert resolve(Recipe, settings | {"selector": {"type": "top", "kl": "kept"}}).selector.kl == "kept"
    outside = {"objective": settings["objective"] | {"kl": "outside"}, "selector": {"type": "top"}}
    assert resolve(Recipe, settings | outside).selector.kl == "all"
    assert resolve(Recipe, settings).selector.kl == "all", "nothing is left out"
