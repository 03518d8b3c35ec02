"""Two gloo processes give the loss and the gradient of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import torch
import torch.distributed as dist
from safetensors.torch import load_file

from klimb.objectives import DAPO, AnyObjective, Custom
from klimb.proving.samples import outputs
from klimb.selection import Top
from klimb.training import distributed
from klimb.training.weighing import weigh
from tests.training.ranks import CASES, OBJECTIVES, case, share


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
        table = logp.requires_grad_()
        ready = weigh(objective.advantage(whole), objective, selector)
        loss = objective.loss(outputs(table, ready.value), ready).loss
        loss.backward()
        assert table.grad is not None
        assert table.grad.abs().max() > 1e-3
        for found in ranks:
            torch.testing.assert_close(found[f"loss{index}"], loss.detach(), rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(found[f"gradient{index}"], table.grad, rtol=1e-6, atol=1e-8)


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


def test_there_is_one_of_each_kind_of_policy_objective() -> None:
    assert {type(objective) for objective in OBJECTIVES} == {*get_args(get_args(AnyObjective)[0])} - {Custom}


def test_the_ranks_hold_different_numbers_of_tokens_so_that_a_mean_of_means_would_be_another_number() -> None:
    sizes = [int(share(rank, 2, case()[0])[0].learn.sum()) for rank in (0, 1)]
    assert sizes[0] != sizes[1]
    assert sum(sizes) == int(case()[0].learn.sum())
