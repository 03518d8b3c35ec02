"""The critic: a linear value head on the policy's own hidden states, with weights of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Critic(nn.Module):
    """V(s_t) = w . h_t + b in float32, h_t the last hidden state at the place that predicts token t; zero at first.

    While w is zero no gradient of the value loss reaches the model. The head is no part of the model's folder: it is
    a keeper (training/keeping.py), with a file of its own in every checkpoint.
    """

    def __init__(self, width: int, moves_trunk: bool = True) -> None:
        super().__init__()
        self.moves_trunk = moves_trunk
        self.weight = nn.Parameter(torch.zeros(width, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def forward(self, states: Tensor) -> Tensor:
        """The value of each state: (t, d) -> (t), float32, differentiable."""
        seen = states if self.moves_trunk else states.detach()
        return torch.mv(seen.float(), self.weight) + self.bias

    def state(self) -> Mapping[str, Tensor]:
        """The two weights by name."""
        return {name: weight.detach() for name, weight in self.named_parameters()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts saved weights back, in place. Raises KeyError where they are not there."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                weight.copy_(state[name])
