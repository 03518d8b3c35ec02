"""The memory saver keeps autograd's promise: what was changed in place since it was kept is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from klimb.policy.fused import rms_norm, swiglu
from klimb.policy.policy import Policy
from klimb.policy.recomputing import recompute_beyond
from klimb.policy.sparing import sparing
from tests.policy.zoo import CONFIGS, batch_of, gradients, policy_of


def some(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def read_by_a_layer(value: Tensor) -> Tensor:
    """What keeps the value for its backward pass."""
    layer = some(value.shape[-1], 3).requires_grad_()
    return (value @ layer).sum()


def test_a_tensor_that_is_kept_as_it_is_and_changed_in_place_is_refused() -> None:
    x = some(4, 5)
    with sparing():
        loss = read_by_a_layer(x)
    x.add_(1.0)
    with pytest.raises(RuntimeError, match=r"\(4, 5\).*changed in place"):
        loss.backward()


@pytest.mark.parametrize("changed", [0, 1])
@pytest.mark.parametrize("kind", ["norm", "gate"])
def test_a_part_of_a_recipe_that_is_changed_in_place_is_refused(kind: str, changed: int) -> None:
    parts = [some(4, 5), some(5) if kind == "norm" else some(4, 5)]
    with sparing():
        loss = read_by_a_layer(rms_norm(*parts, 1e-6) if kind == "norm" else swiglu(*parts))
    parts[changed].mul_(2.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_a_value_that_was_changed_before_it_was_read_is_not_made_again_as_it_was() -> None:
    def gradient(value: Tensor) -> Tensor:
        value.mul_(3.0)
        layer = some(5, 3).requires_grad_()
        (value @ layer).sum().backward()
        assert layer.grad is not None
        return layer.grad

    gate, up = some(4, 5), some(4, 5)
    with sparing():
        found = gradient(swiglu(gate, up))
    torch.testing.assert_close(found, gradient(swiglu(gate, up)))


def test_what_nobody_changed_goes_back_to_the_same_bits() -> None:
    leaves = [some(4, 5).requires_grad_(), some(5).requires_grad_()]
    plain = torch.autograd.grad(read_by_a_layer(rms_norm(leaves[0], leaves[1], 1e-6)), leaves)
    with sparing():
        loss = read_by_a_layer(rms_norm(leaves[0], leaves[1], 1e-6))
    for one, other in zip(torch.autograd.grad(loss, leaves), plain, strict=True):
        assert torch.equal(one, other)


class Alive:
    """Counts how many of the gates and ups that a model makes are in memory together."""

    def __init__(self, model: Any) -> None:
        self.most = 0
        self._made: list[StorageWeakRef] = []
        for name, module in model.named_modules():
            if name.endswith(("gate_proj", "up_proj")):
                module.register_forward_hook(self._count)

    def _count(self, module: Any, asked: Any, out: Tensor) -> None:
        self._made.append(StorageWeakRef(out.untyped_storage()))
        self.most = max(self.most, sum(not one.expired() for one in self._made))


def most_alive(policy: Policy) -> int:
    alive = Alive(policy.model)
    policy(batch_of())
    return alive.most


def test_layers_that_run_again_keep_nothing_until_the_pass_has_ended_and_the_gradient_is_the_same_to_the_bit() -> None:
    kept, again, every = (policy_of(CONFIGS["llama"], path="packed", checkpointing=one) for one in (False, False, True))
    recompute_beyond(again.model, 1)
    batch = batch_of()
    assert batch.weight is not None
    wanted, *others = (gradients(p.model, (batch.weight * p(batch).logp).sum()) for p in (kept, again, every))
    for found in others:
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert [most_alive(one) for one in (kept, again, every)] == [6, 2, 2], "two of each of three layers, or of one"


def test_a_pass_without_a_gradient_keeps_nothing_until_it_has_ended() -> None:
    with torch.no_grad():
        assert most_alive(policy_of(CONFIGS["llama"], path="packed")) == 2
