"""What one process of a gloo group computes of a batch: `python ranks.py RANK WORLD STORE OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

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
from klimb.training.base import AdamW
from klimb.training.distributed import add_gradients, weigh
from klimb.training.optimizer import MasterAdamW

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


def case() -> tuple[Batch, Tensor]:
    """A batch in float32, and a table of log-probs that stands for the policy's parameters."""
    whole = sample_batch(11, prompts=6)
    names = ("reward", "old", "ref", "value")
    logp = moved(whole).detach().float()
    draw = torch.Generator().manual_seed(12)
    ranked = whole.replace(entropy=torch.rand(len(logp), generator=draw), key=torch.arange(whole.rows))
    return ranked.replace(**{name: getattr(whole, name).float() for name in names}), logp


def share(rank: int, ranks: int, whole: Batch, empty: bool = False) -> tuple[Batch, Tensor]:
    """The rows of the groups that fall to this rank, and the places of their tokens; all to the first, if `empty`."""
    rows = torch.nonzero((whole.group * (not empty)) % ranks == rank).flatten()
    return whole.take(rows), torch.isin(whole.row, rows)


def opened(logp: Tensor) -> tuple[MasterAdamW, Tensor]:
    """An optimizer of a float32 table, of one in bfloat16 and of a weight that no loss reads; the tables' sum."""
    table, low = nn.Parameter(logp.clone()), nn.Parameter(torch.zeros_like(logp, dtype=torch.bfloat16))
    named = {"table": table, "low": low, "unread": nn.Parameter(torch.ones(2))}
    return MasterAdamW(named.items(), AdamW(weight_decay=0.5)), table + low.float()


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
        updater, table = opened(logp)
        updater.begin(ranks)
        part, total = weigh(mine, objective, selector), torch.zeros(())
        if part.rows:  # else no pass is made
            loss = objective.loss(outputs(table[places], part.value), part).loss
            loss.backward()
            total = loss.detach().clone()
        add_gradients([updater])
        dist.all_reduce(total)
        found[f"loss{index}"] = total
        found |= {f"gradient{index}.{name}": gradient.clone() for name, gradient in updater.gradients().items()}
        updater.step(0.1, updater.norm())
        found |= {f"weight{index}.{name}": weight for name, weight in updater.master.items()}
    save_file(found, Path(out) / f"{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
