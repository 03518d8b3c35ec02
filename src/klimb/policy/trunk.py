"""A policy without an output layer, of which only values are read: a reward model, or a critic of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from klimb.batch import Batch, Outputs
from klimb.policy.output import output_layer, own_output
from klimb.policy.paths import Read
from klimb.policy.policy import Policy


class Trunk(Policy):
    """A model whose output layer is left out: nothing computes, trains, keeps or saves it.

    Two exceptions: where only the model's own logits are trusted they are computed, beside the hidden states; and an
    output layer that `mute` leaves in place is kept and saved as it is, without a gradient.
    """

    speaks = False

    def __call__(self, batch: Batch, read: Read | None = None) -> Outputs:
        """The critic's value (differentiable) before each token; log-probs and entropies, which it lacks, are zero."""
        there, found = batch.to(self.device), list[Tensor]()
        if self.path.rule is None:  # then only the hidden states beside its own logits are known to be the last ones
            self.path.token_logps(there, found.append)
        else:
            found.append(self.path.states(there))
        if read is not None:
            read(found[0])
        nothing = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
        value = None if self.critic is None else self.critic(found[0]).to(nothing.device)
        return Outputs(nothing, nothing, value)

    def saved(self, changed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the folder: those of a policy, less the output layer's that the embedding stands in for."""
        head = self._tied()
        return {name: weight for name, weight in super().saved(changed).items() if name != head}


def mute(model: Any) -> set[str]:
    """Takes an output layer of its own from the model; the embedding stands in for it, at no cost of memory.

    Gives the names of what it had; nothing where the embedding has another shape, and then all stays as it is, and a
    folder without the layer is refused. Raises ModelError where transformers names no output layer.
    """
    head, embedding = output_layer(model), model.get_input_embeddings()
    if head.weight.shape != embedding.weight.shape:
        return set()
    names = own_output(model)
    head.weight, head.bias = embedding.weight, None
    return names
