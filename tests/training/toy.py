"""A bigram policy and batches for it: small enough that a training step takes a millisecond."""

from __future__ import annotations

import torch
from torch import nn

from klimb.batch import Batch, Outputs
from klimb.types import Completion, Finish, Group, Prompt, Rollout

VOCABULARY = 11


class Bigram(nn.Module):
    """The next token's logits depend on the token before it."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.table = nn.Parameter(
            torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(3)).to(dtype)
        )
        self.bias = nn.Parameter(torch.zeros(VOCABULARY, dtype=dtype))

    def forward(self, batch: Batch) -> Outputs:
        first = torch.ones_like(batch.row, dtype=torch.bool)
        first[1:] = batch.row[1:] != batch.row[:-1]
        before = torch.roll(batch.tokens, 1)
        last = torch.stack([prompt[-1] for prompt in batch.prompts])
        before = torch.where(first, last[batch.group[batch.row]], before)
        logits = (self.table[before] + self.bias).float() / batch.temperature
        every = logits.log_softmax(-1)
        entropy = -(every.exp() * every).sum(-1).detach()
        return Outputs(every.gather(-1, batch.tokens[:, None])[:, 0], entropy)


def groups(prompts: int = 4, completions: int = 8, seed: int = 0) -> list[Group]:
    """Random groups with rewards of 0 and 1 and lengths of 1 to 6; log-probs are made up."""
    dice = torch.Generator().manual_seed(seed)

    def rollout(k: int) -> Rollout:
        length = int(torch.randint(1, 7, (), generator=dice))
        tokens = tuple(torch.randint(0, VOCABULARY, (length,), generator=dice).tolist())
        done = Completion(tokens, (-2.0,) * length, "", Finish.EOS, (1.0,) * length)
        return Rollout(done, k, k, {}, float(torch.randint(0, 2, (), generator=dice)))

    return [
        Group(
            Prompt(id=str(g), text="", tokens=(g % VOCABULARY, (g * 3) % VOCABULARY)),
            tuple(rollout(k) for k in range(completions)),
        )
        for g in range(prompts)
    ]
