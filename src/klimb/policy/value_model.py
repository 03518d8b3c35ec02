"""A critic with a model of its own, beside the policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from klimb.errors import ModelError
from klimb.policy import reward_head
from klimb.policy.loading import folder_of, load

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.policy.base import PolicySettings
    from klimb.policy.policy import Policy


class ValueModel:
    """V(s_t) = w . h_t + b, h_t the last hidden state of its own trunk where token t is predicted."""

    def __init__(self, trunk: Policy) -> None:
        self.trunk = trunk

    def __call__(self, batch: Batch) -> Tensor:
        """The value before each token (t), float32, differentiable."""
        value = self.trunk(batch).value
        assert value is not None, "its trunk has a value head"
        return value

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Its weights, each once, the head's last, as `critic.weight` and `critic.bias`."""
        yield from self.trunk.named_parameters()

    def check(self, weights: Mapping[str, Tensor]) -> None:
        """Raises KeyError where saved weights are of another model: lacking, left over or of another shape."""
        own: dict[str, Tensor] = dict(self.trunk.named_parameters())
        for name in sorted(own.keys() | weights.keys()):
            wanted, found = (held[name].shape if name in held else None for held in (own, weights))
            if wanted != found:
                raise KeyError(f"weights of this model: {name} wants {_shape(wanted)}, found {_shape(found)}")


def open_value_model(
    path: Path | None, settings: PolicySettings, policy: Policy, seed: int, normalised: bool = True
) -> tuple[ValueModel, str]:
    """The critic that begins as the model at `path`, else as `settings` say, and how its head begins, in words.

    A reward model's head begins in the units of its `normalised` rewards, where it has a scale for them.
    Raises ModelError where it does not load, reads other tokens than the policy, or has less context.
    """
    begins = settings.at(settings.name if path is None else path)
    name, trunk = begins.name, load(begins, seed, speaks=False)
    trunk.add_critic()
    asked = f"a critic (objective.value) that begins as {name!r}"
    if trunk.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise ModelError(asked, "a tokenizer of other tokens than the policy's", "a model of the policy's family")
    if trunk.context < policy.context:
        found = f"at most {trunk.context} tokens, and the policy reads {policy.context}"
        raise ModelError(asked, found, "a model with as much context")
    rows, most = (one.model.get_input_embeddings().weight.shape[0] for one in (trunk, policy))
    if rows < most:
        found = f"an embedding of {rows} rows, and the policy may draw any of {most} tokens"
        raise ModelError(asked, found, "a model with as many rows: one trained from the policy, not resized")
    how = _begin_head(trunk, None if path is None else folder_of(name), normalised)
    return ValueModel(trunk), f"{trunk.describe()}; {how}"


def _shape(shape: torch.Size | None) -> str:
    return "nothing" if shape is None else str(tuple(shape))


def _begin_head(trunk: Policy, folder: Path | None, normalised: bool) -> str:
    """Puts the folder's head into the critic, where it has one, and says how it begins."""
    if folder is None or not reward_head.begin(trunk, folder):
        return "a head of zeros"
    begun = "a head that begins as its folder has it"
    scale = reward_head.normalise(trunk, folder) if normalised else None
    return begun if scale is None else f"{begun}, less {scale.mean:.4g}, over {scale.std:.4g}: in normalised rewards"
