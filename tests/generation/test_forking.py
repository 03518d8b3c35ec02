"""Two temperatures: which is used is decided by the policy's own entropy; what is told is what was drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.generation.base import Forking, Sampling
from klimb.generation.engine.draw import draw
from klimb.recipe import Recipe
from klimb.rollouts import read, write
from klimb.rollouts.form import FORMAT
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Transform
from tests.selection.test_known_bugs import settings

SHARP, FLAT = torch.tensor([4.0, 0.0, 0.0, 1.0]), torch.tensor([0.3, 0.1, 0.0, 0.2])


def forked(high: float, low: float, count: int = 4000) -> tuple[Any, torch.Tensor]:
    """Draws of `count` sharp and as many flat rows, in turns, and their logits."""
    logits = torch.stack([SHARP, FLAT]).repeat(count, 1)
    chances = torch.rand(2 * count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return draw(logits, chances, Sampling(forking=Forking(threshold=0.672, high=high, low=low))), logits


def test_each_row_is_drawn_at_the_temperature_that_its_entropy_asks_for() -> None:
    drawn, logits = forked(high=0.5, low=3.0)
    plain = logits.log_softmax(-1)
    entropy = -(plain.exp() * plain).sum(-1)
    torch.testing.assert_close(drawn.entropies, entropy, rtol=1e-5, atol=1e-6)
    assert entropy[0] < 0.672 < entropy[1]
    for start, row, temperature in ((0, SHARP, 3.0), (1, FLAT, 0.5)):
        wanted = (row / temperature).log_softmax(-1)
        tokens = drawn.tokens[start::2]
        torch.testing.assert_close(drawn.logps[start::2], wanted[tokens], rtol=1e-5, atol=1e-5)
        shares = torch.bincount(tokens, minlength=4) / tokens.numel()
        torch.testing.assert_close(shares, wanted.exp(), rtol=0, atol=0.03)


def test_two_temperatures_of_one_are_no_change_and_zero_is_greedy() -> None:
    drawn, logits = forked(1.0, 1.0, 50)
    chances = torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = draw(logits, chances, Sampling())
    assert torch.equal(drawn.tokens, plain.tokens)
    greedy, _ = forked(0.0, 0.0, 5)
    assert greedy.tokens.tolist() == [0] * 10
    assert (greedy.logps == 0).all() and (greedy.entropies > 0).all()


def test_the_transform_says_so_and_is_not_comparable_with_the_policy() -> None:
    transform = Sampling(forking=Forking(high=1.2, low=0.8)).transform
    assert transform == Transform(forking=(0.672, 1.2, 0.8))
    assert not transform.comparable and not transform.truncates
    assert Transform().comparable and not Transform(top_k=3).comparable


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling": {"forking": {}, "temperature": 0.7}}, "sampling.temperature=1.0"),
        ({"sampling": {"forking": {}}, "training": {"correction": {"type": "mask"}}}, "another distribution"),
        (
            {"sampling": {"forking": {}}, "generator": {"type": "http", "url": "http://localhost:1"}},
            "generator.type=local",
        ),
        ({"sampling": {"forking": {"hot": 1.0}}}, "sampling.forking.hot"),
    ],
)
def test_what_does_not_go_with_it_is_one_clear_fault(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(Recipe, settings(**changes))
    assert words in str(caught.value)


@pytest.mark.parametrize("forking", [None, (0.5, 1.2, 0.7)])
def test_rollouts_keep_it(tmp_path: Path, forking: tuple[float, float, float] | None) -> None:
    done = Rollout(Completion((1,), (-0.5,), "", Finish.EOS), 0, 7)
    groups = [Group(Prompt("a", text="", tokens=(1,)), (done,), Transform(forking=forking))]
    write(tmp_path / "a.parquet", groups, 1)
    assert read(tmp_path / "a.parquet")[0].transform.forking == forking


def test_rollouts_from_before_it_are_read(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    done = Rollout(Completion((1,), (-0.5,), "", Finish.EOS), 0, 7)
    path = tmp_path / "a.parquet"
    write(path, [Group(Prompt("a", text="", tokens=(1,)), (done,))], 1)
    before = pq.read_table(path).drop_columns(["forking", "template", "estimated"])
    pq.write_table(before.replace_schema_metadata({FORMAT: b"1"}), path)
    assert read(path)[0].transform == Transform()
