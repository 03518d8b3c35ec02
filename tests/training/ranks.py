"""What one process of a gloo group computes of a batch: `python ranks.py RANK WORLD STORE OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from klimb.batch import Batch
from klimb.objectives import (
    CISPO,
    DAPO,
    GRPO,
    GSPO,
    PPO,
    RLOO,
    RPG,
    TOPR,
    DrGRPO,
    GSPOToken,
    Objective,
    Reinforce,
    ReinforcePP,
    ReinforcePPBaseline,
)
from klimb.proving.samples import moved, outputs, sample_batch
from klimb.selection import Bottom, Every, Random, Selector, Top
from klimb.training.distributed import add_gradients, weigh

OBJECTIVES: tuple[Objective, ...] = (
    Reinforce(), RLOO(), PPO(), GRPO(beta=0.1), DrGRPO(length=5), DAPO(), GSPO(), GSPOToken(), CISPO(), ReinforcePP(),
    ReinforcePPBaseline(beta=0.1), RPG(beta=0.1), RPG(form="differentiable", level="sequence", beta=0.1), TOPR(),
)  # fmt: skip
"""One of each kind."""
SELECTED: tuple[Objective, ...] = (GRPO(beta=0.1), DrGRPO(length=5), DAPO(), RLOO())
SELECTORS: tuple[Selector, ...] = (Every(), Top(share=0.3), Bottom(share=0.3, kl="kept"), Random(normaliser="all"))
CASES: list[tuple[Objective, Selector, bool]] = [(objective, Every(), False) for objective in OBJECTIVES]
CASES += [(objective, selector, empty) for objective in SELECTED for selector in SELECTORS for empty in (False, True)]
"""What is computed, and whether the second rank has no rows at all."""


def case() -> tuple[Batch, torch.Tensor]:
    """A batch in float32, and a table of log-probs that stands for the policy's parameters."""
    whole = sample_batch(11, prompts=6)
    names = ("reward", "old", "ref", "value")
    logp = moved(whole).detach().float()
    draw = torch.Generator().manual_seed(12)
    ranked = whole.replace(entropy=torch.rand(len(logp), generator=draw), key=torch.arange(whole.rows))
    return ranked.replace(**{name: getattr(whole, name).float() for name in names}), logp


def share(rank: int, ranks: int, whole: Batch, empty: bool = False) -> tuple[Batch, torch.Tensor]:
    """The rows of the groups that fall to this rank, and the places of their tokens; all to the first, if `empty`."""
    rows = torch.nonzero((whole.group * (not empty)) % ranks == rank).flatten()
    return whole.take(rows), torch.isin(whole.row, rows)


def main(rank: int, ranks: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    found = {}
    for index, (objective, selector, empty) in enumerate(CASES):
        whole, logp = case()
        if objective.beyond_group:  # such advantages are of the whole batch, which a rank is given
            mine, places = share(rank, ranks, objective.advantage(whole), empty)
        else:
            mine, places = share(rank, ranks, whole, empty)
            mine = objective.advantage(mine)
        table = logp.requires_grad_()
        part = weigh(mine, objective, selector)
        loss = objective.loss(outputs(table[places], part.value), part).loss
        loss.backward()
        add_gradients([table])
        total = loss.detach().clone()
        dist.all_reduce(total)
        assert table.grad is not None
        found |= {f"loss{index}": total, f"gradient{index}": table.grad}
    save_file(found, Path(out) / f"{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
