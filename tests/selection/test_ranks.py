"""Two processes keep together exactly what one would keep alone, also where one of them has nothing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from klimb.batch import Batch
from klimb.ranks import everyone
from klimb.selection import Selector
from tests.selection.kit import selector_of, some

LIMIT = 60
CHOICES: list[dict[str, Any]] = [
    *({"type": kind, "share": 0.3} for kind in ("top", "bottom", "random")),
    {"type": "top", "share": 0.3, "population": "row"},
    {"type": "above", "at": 0.7},
    {"type": "every"},
]


def work(rank: int, place: str, cuts: list[list[list[int]]], answers: Any) -> None:
    """One rank: keeps of its rows in each cut, by each selector."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    for number, cut in enumerate(cuts):
        mine = some(number).take(torch.tensor(sorted(cut[rank]), dtype=torch.int64))
        mine = deaf(mine) if number == len(cuts) - 1 and rank == 1 else mine
        keeps = [selector_of(**choice).keep(mine).tolist() for choice in CHOICES]
        answers.put((rank, number, keeps))
    dist.destroy_process_group()


def deaf(batch: Batch) -> Batch:
    """The batch with nothing in it that learns."""
    return batch.replace(learn=torch.zeros_like(batch.learn))


def test_two_ranks_keep_what_one_keeps_and_an_empty_rank_does_not_hang(tmp_path: Path) -> None:
    every = list(range(12))
    cuts = [[every[:5], every[5:]], [every[::2], every[1::2]], [every, []], [[], every], [every[:7], every[7:]]]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    ranks = [context.Process(target=work, args=(r, str(tmp_path / "meet"), cuts, answers)) for r in range(2)]
    for rank in ranks:
        rank.start()
    found = {}
    try:
        for _ in range(2 * len(cuts)):
            rank, number, keeps = answers.get(timeout=LIMIT)
            found[rank, number] = keeps
    finally:
        for process in ranks:
            process.join(5)
            process.kill()
    for number, cut in enumerate(cuts):
        whole = some(number)
        if number == len(cuts) - 1:  # the second rank has tokens, none of which learns
            whole = whole.replace(learn=whole.learn & torch.isin(whole.row, torch.tensor(cut[0])))
        for choice, settings in enumerate(CHOICES):
            together = torch.zeros_like(whole.learn)
            for rank in range(2):
                inside = torch.isin(whole.row, torch.tensor(cut[rank], dtype=torch.int64))
                together[inside] = torch.tensor(found[rank, number][choice], dtype=torch.bool)
            selector: Selector = selector_of(**settings)
            assert torch.equal(together, selector.keep(whole)), (number, settings)


def test_without_ranks_everyone_is_oneself() -> None:
    values = torch.tensor([3.0, 1.0])
    all_values, mine = everyone(values)
    assert torch.equal(all_values[mine], values)
    assert all_values.numel() == 2


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: c["type"])
def test_nothing_that_learns_anywhere_keeps_nothing(choice: dict[str, Any]) -> None:
    assert not selector_of(**choice).keep(deaf(some())).any()
