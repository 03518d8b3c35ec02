"""The optimizer: torch's AdamW on float32 masters, whatever the parameters compute in."""

from __future__ import annotations

import torch
from torch import nn

from klimb.training.base import AdamW
from klimb.training.optimizer import MasterAdamW
from klimb.training.schedule import learning_rate

SETTINGS = AdamW(lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, clip=1e9)


def named(dtype: torch.dtype) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2).to(dtype)


def test_ten_updates_equal_those_of_torch() -> None:
    ours, theirs = named(torch.float32), named(torch.float32)
    mine = MasterAdamW(ours.named_parameters(), SETTINGS)
    torchs = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, fused=True)
    for step in range(10):
        inputs = torch.full((4, 3), float(step + 1))
        mine.begin(1)
        ours(inputs).square().sum().backward()
        mine.step(0.01, mine.norm())
        torchs.zero_grad()
        theirs(inputs).square().sum().backward()
        torchs.step()
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)


def test_a_larger_gradient_is_scaled_down_to_the_clip() -> None:
    model = named(torch.float32)
    optimizer = MasterAdamW(model.named_parameters(), SETTINGS.model_copy(update={"clip": 0.5}))
    optimizer.begin(1)
    model(torch.ones(4, 3)).square().sum().backward()
    gradient, norm = optimizer.gradients()["weight"].clone(), optimizer.norm()
    assert norm > 0.5
    optimizer.step(0.01, norm)
    torch.testing.assert_close(optimizer.first["weight"], (1 - 0.8) * gradient * 0.5 / norm)


def test_bfloat16_parameters_are_the_rounded_masters_and_small_updates_are_not_lost() -> None:
    model = named(torch.bfloat16)
    optimizer = MasterAdamW(model.named_parameters(), AdamW(lr=1e-5, warmup=0, clip=1e9))
    start = optimizer.master["weight"].clone()
    for _ in range(50):
        optimizer.begin(1)
        model(torch.ones(4, 3, dtype=torch.bfloat16)).sum().backward()
        optimizer.step(1e-5, optimizer.norm())
    moved = start - optimizer.master["weight"]
    torch.testing.assert_close(moved, torch.full_like(moved, 50e-5), rtol=0.01, atol=0)
    assert torch.equal(model.weight, optimizer.master["weight"].bfloat16())


def test_bfloat16_gradients_of_several_parts_add_up_in_float32() -> None:
    model = named(torch.bfloat16)
    optimizer = MasterAdamW(model.named_parameters(), SETTINGS)
    optimizer.begin(300)
    for _ in range(300):
        model(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
    gradients = optimizer.gradients()
    assert gradients["bias"].dtype == torch.float32
    assert gradients["bias"].tolist() == [300.0, 300.0], "bfloat16 sums would stick at 256"


def test_a_gradient_that_is_not_finite_is_named() -> None:
    model = named(torch.float32)
    optimizer = MasterAdamW(model.named_parameters(), SETTINGS)
    optimizer.begin(1)
    model(torch.ones(1, 3)).sum().backward()
    assert optimizer.bad_gradients() == []
    optimizer.gradients()["bias"][1] = float("nan")
    assert optimizer.bad_gradients() == ["bias"]


def test_the_learning_rate_warms_up_and_then_follows_its_schedule() -> None:
    settings = AdamW(lr=1.0, warmup=4)
    assert [learning_rate(settings, step, 8) for step in (1, 2, 4, 5, 8)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    linear = settings.model_copy(update={"schedule": "linear"})
    assert [learning_rate(linear, step, 8) for step in (4, 5, 8)] == [1.0, 0.8, 0.19999999999999996]
    cosine = settings.model_copy(update={"schedule": "cosine"})
    assert learning_rate(cosine, 8, 8) < 0.1 < learning_rate(cosine, 6, 8) < 1.0


def test_weights_that_come_in_later_are_updated_as_if_they_had_an_optimizer_of_their_own() -> None:
    """Adam's correction for moments that began at zero counts from there, not from the first update of the others."""
    old, new, alone = (named(torch.float32) for _ in range(3))
    first = MasterAdamW(old.named_parameters("old"), SETTINGS)
    for _ in range(5):
        first.begin(1)
        old(torch.ones(2, 3)).square().sum().backward()
        first.step(0.01, first.norm())
    both = MasterAdamW([*old.named_parameters("old"), *new.named_parameters("new")], SETTINGS)
    both.restore({**both.master, **first.master}, first.state(), 5, {"new.weight", "new.bias"})
    own = MasterAdamW(alone.named_parameters(), SETTINGS)
    for _ in range(2):
        for optimizer, model in ((both, new), (own, alone)):
            optimizer.begin(1)
            model(torch.full((4, 3), 2.0)).square().sum().backward()
            optimizer.step(0.01, optimizer.norm())
        saved = both.state()
        both.restore(both.master, {name: tensor.clone() for name, tensor in saved.items()}, both.count)
    assert torch.equal(new.weight, alone.weight) and torch.equal(new.bias, alone.bias)
    assert int(both.state()["begun.new.weight"]) == 5
