"""Two gloo processes give the loss and the gradient of one, and the same weights after a step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from klimb.objectives import DAPO, AnyObjective, Custom
from klimb.proving.samples import outputs
from klimb.selection import Top
from klimb.training import distributed
from klimb.training.base import AdamW, ScheduleFree
from klimb.training.updater import open_updater
from klimb.training.weighing import weigh
from tests.training.ranks import CASES, OBJECTIVES, case, opened, share


def test_a_batch_split_over_two_ranks_one_of_them_possibly_empty_has_the_loss_and_gradient_of_one_process(
    root: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "tests.training.ranks"]
    running = [
        subprocess.Popen([*words, str(rank), "2", str(tmp_path / "store"), str(tmp_path)], cwd=root) for rank in (0, 1)
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    ranks = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    for index, (objective, selector, _) in enumerate(CASES):
        whole, logp = case()
        updater, table = opened(logp)
        updater.begin(2)
        ready = weigh(objective.advantage(whole), objective, selector)
        loss = objective.loss(outputs(table, ready.value), ready).loss
        loss.backward()
        wanted = updater.gradients()
        assert wanted.keys() == {"table", "low"} and wanted["table"].abs().max() > 1e-3
        for found in ranks:
            torch.testing.assert_close(found[f"loss{index}"], loss.detach(), rtol=1e-6, atol=1e-7)
            gradients = {name: found.get(f"gradient{index}.{name}") for name in updater.parameters}
            torch.testing.assert_close(gradients["table"], wanted["table"], rtol=1e-6, atol=1e-8)
            torch.testing.assert_close(gradients["low"], wanted["low"], rtol=1e-2, atol=1e-8)
            assert gradients["unread"] is None and torch.equal(found[f"weight{index}.unread"], torch.ones(2))
            assert not torch.equal(found[f"weight{index}.table"], logp), "it learns"
        assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0]), "no rank drifts from another"


def test_one_rank_ranks_its_own_parts_as_a_run_does(tmp_path: Path) -> None:
    selector, whole = Top(share=0.3, population="micro"), DAPO().advantage(case()[0])
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'alone'}", rank=0, world_size=1)
    try:
        found = distributed.weigh(whole, DAPO(), selector, 12)
    finally:
        dist.destroy_process_group()
    wanted = weigh(whole, DAPO(), selector, 12)
    assert torch.equal(found.learn, wanted.learn)
    torch.testing.assert_close(found.weight, wanted.weight)
    assert int(found.learn.sum()) > int(weigh(whole, DAPO(), selector).learn.sum()), "the cut into parts is seen"


@pytest.mark.parametrize("settings", [AdamW(), ScheduleFree()])
def test_a_rank_alone_keeps_its_gradients_and_what_is_asked_for_is_part_of_them(
    settings: AdamW | ScheduleFree, tmp_path: Path
) -> None:
    read, unread = (nn.Parameter(torch.ones(3)) for _ in range(2))
    updater = open_updater(settings, {"read": read, "unread": unread}.items())
    updater.begin(2)
    (2.0 * read).sum().backward()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'alone'}", rank=0, world_size=1)
    try:
        distributed.add_gradients([updater])
    finally:
        dist.destroy_process_group()
    assert {name: gradient.tolist() for name, gradient in updater.gradients().items()} == {"read": [2.0] * 3}
    updater.gradient("unread").add_(1.0)
    updater.gradient("read").add_(1.0)
    assert [gradient.tolist() for gradient in updater.gradients().values()] == [[3.0] * 3, [1.0] * 3]


def test_there_is_one_of_each_kind_of_policy_objective() -> None:
    assert {type(objective) for objective in OBJECTIVES} == {*get_args(get_args(AnyObjective)[0])} - {Custom}


def test_the_ranks_hold_different_numbers_of_tokens_so_that_a_mean_of_means_would_be_another_number() -> None:
    sizes = [int(share(rank, 2, case()[0])[0].learn.sum()) for rank in (0, 1)]
    assert sizes[0] != sizes[1]
    assert sum(sizes) == int(case()[0].learn.sum())
