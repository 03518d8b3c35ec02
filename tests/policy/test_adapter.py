"""LoRA: the adapter, the merged weights and the reference are the same policies on every way to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import klimb
from klimb.batch import Batch
from klimb.config import resolve
from klimb.errors import ModelError, SettingsError
from klimb.generation.base import Request, Sampling
from klimb.generation.local import Local
from klimb.policy.adapter import Started
from klimb.policy.against import Against
from klimb.policy.base import LoRA, PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.recipe import Recipe
from klimb.training.base import AdamW
from klimb.training.optimizer import MasterAdamW
from tests.policy.zoo import batch_of

peft = pytest.importorskip("peft")


def opened(moved: bool = True, **settings: Any) -> Policy:
    """A tiny policy with an adapter, whose B is not zero where it has moved."""
    lora = LoRA(**{"rank": 3, "alpha": 6.0, **settings.pop("lora", {})})
    policy = load(PolicySettings(lora=lora, **settings), seed=5)
    if moved:
        dice = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for _, weight in policy.named_parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=dice))
    return policy


def logps(policy: Any, batch: Batch) -> Tensor:
    with torch.no_grad():
        out: Tensor = policy(batch).logp
    return out


@pytest.fixture(scope="module")
def batch() -> Batch:
    return batch_of()


@pytest.mark.parametrize("path", ["packed", "plain"])
def test_a_fresh_adapter_is_the_model_itself_to_the_last_bit(path: str, batch: Batch) -> None:
    plain = load(PolicySettings(path=path), seed=5)  # type: ignore[arg-type]
    assert torch.equal(logps(opened(moved=False, path=path), batch), logps(plain, batch))


def test_only_the_adapter_learns_and_gets_gradients(batch: Batch) -> None:
    policy = opened()
    policy(batch).logp.sum().backward()
    names = [name for name, _ in policy.named_parameters()]
    assert len(names) == 2 * 2 * 7 and all(name.startswith("lora.") for name in names)
    got = {name for name, weight in policy.model.named_parameters() if weight.grad is not None}
    assert {f"lora.{name}" for name in got} == set(names)


def test_the_saved_model_has_the_log_probs_of_the_adapter_and_the_saved_adapter_is_peft_s(
    batch: Batch, tmp_path: Path
) -> None:
    policy = opened()
    policy.save(tmp_path / "model")
    merged = load(PolicySettings(name=str(tmp_path / "model"), precision="float32"))
    torch.testing.assert_close(logps(merged, batch), logps(policy, batch), rtol=1e-4, atol=1e-5)
    base = load(PolicySettings(), seed=5)
    theirs = peft.PeftModel.from_pretrained(base.model, str(tmp_path / "model" / "adapter"))
    theirs = theirs.merge_and_unload()
    saved = load_file(tmp_path / "model" / "model.safetensors")
    for name, weight in theirs.named_parameters():
        torch.testing.assert_close(weight.detach(), saved[name], rtol=1e-5, atol=1e-6)


def test_the_fast_sampler_draws_from_the_merged_weights() -> None:
    policy, base = opened(), load(PolicySettings(), seed=5)
    asked, drawn = [Request(tuple(range(60, 80)), (1, 2, 3))], Sampling(max_tokens=12)

    def sampled(policy: Policy, engine: str) -> list[tuple[int, ...]]:
        with Local(engine=engine).open(policy) as sampler:  # type: ignore[arg-type]
            return [one.tokens for one in sampler.sample(asked, drawn)[0]]

    assert sampled(policy, "fast") == sampled(policy, "plain")
    assert sampled(policy, "fast") != sampled(base, "fast"), "else it would show nothing"


def test_the_fast_sampler_sees_an_adapter_that_has_moved_since() -> None:
    policy = opened(moved=False)
    asked, drawn = [Request(tuple(range(60, 80)), (1, 2, 3))], Sampling(max_tokens=12)
    with Local(engine="fast").open(policy) as sampler:
        before = sampler.sample(asked, drawn)
        with torch.no_grad():
            for _, weight in policy.named_parameters():
                weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))
        sampler.refresh()
        assert sampler.sample(asked, drawn) != before


def test_the_reference_of_a_fresh_adapter_is_the_base_though_the_adapter_has_moved(batch: Batch) -> None:
    policy = opened()
    assert policy.adapter is not None
    reference, base = Started(policy, policy.adapter), load(PolicySettings(), seed=5)
    assert torch.equal(logps(reference, batch), logps(base, batch))
    assert not torch.allclose(logps(policy, batch), logps(base, batch), atol=1e-3)
    ours, theirs, moved = (list(one.distributions(batch, 5)) for one in (reference, base, policy))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.allclose(moved[0], theirs[0], atol=1e-3)


def test_the_exact_kl_to_the_start_of_an_adapter_is_that_to_the_base_with_its_gradient(batch: Batch) -> None:
    policy, base = opened(), load(PolicySettings(), seed=5)
    assert policy.adapter is not None
    found = []
    for reference in (Started(policy, policy.adapter), base):
        near = Against(policy, reference)(batch).divergence
        assert near is not None and float(near.detach().min()) > 0.0
        near.sum().backward()
        found.append(
            [
                near.detach(),
                *(weight.grad.clone() for _, weight in policy.named_parameters() if weight.grad is not None),
            ]
        )
        policy.model.zero_grad()
    assert len(found[0]) == 1 + 2 * 2 * 7
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_adapter_as_reference_the_reference_of_a_trained_adapter_is_that_adapter_and_not_the_base(
    batch: Batch, tmp_path: Path
) -> None:
    first = opened()
    first.save(tmp_path / "model")
    again = opened(moved=False, lora={"path": tmp_path / "model" / "adapter"})
    assert torch.equal(logps(again, batch), logps(first, batch)), "it goes on from the saved adapter"
    with torch.no_grad():
        for _, weight in again.named_parameters():
            weight.mul_(1.5)
    assert again.adapter is not None
    assert torch.equal(logps(Started(again, again.adapter), batch), logps(first, batch))
    base = load(PolicySettings(), seed=5)
    assert not torch.allclose(logps(first, batch), logps(base, batch), atol=1e-3)


def test_eight_steps_of_a_full_rank_adapter_with_a_fixed_at_one_are_eight_steps_of_the_weights(batch: Batch) -> None:
    targets, width = ("q_proj", "o_proj"), 64
    adapted = opened(moved=False, lora={"rank": width, "alpha": float(width), "targets": targets})
    whole = load(PolicySettings(), seed=5)
    for name, weight in adapted.named_parameters():
        if "lora_A" in name:  # W + B 1: the gradient and Adam's update of B are those of W
            weight.data.copy_(torch.eye(width))
            weight.requires_grad_(False)
    for name, weight in whole.named_parameters():
        weight.requires_grad_(name.endswith(tuple(f"{target}.weight" for target in targets)))
    sides = [(one, MasterAdamW(one.named_parameters(), AdamW(clip=1.0))) for one in (adapted, whole)]
    start = logps(whole, batch)
    for _ in range(8):
        for policy, optimizer in sides:
            optimizer.begin(1)
            (-policy(batch).logp.mean()).backward()
            optimizer.step(1e-3, optimizer.norm())
    torch.testing.assert_close(logps(adapted, batch), logps(whole, batch), rtol=1e-3, atol=1e-4)
    assert float((logps(whole, batch) - start).abs().mean()) > 0.02


def recipe(**more: Any) -> Recipe:
    return resolve(
        Recipe,
        {
            "model": {"name": "tiny", "lora": {"rank": 4}}, "data": {"type": "echo-pairs", "digits": 4, "letters": 2},
            "objective": {"type": "hypo", "kl_weight": 0.1}, "source": {"type": "mixture", "prompts": 4},
            "sampling": {"max_tokens": 2}, "optimizer": {"lr": 3e-3, "schedule": "constant"},
            "training": {"steps": 4}, "evaluation": {"every": 2, "problems": 4}, "checkpoints": {"every": 2},
            **more,
        },
    )  # fmt: skip


def test_a_run_with_an_adapter_goes_on_bit_for_bit_and_its_model_is_loaded_whole(tmp_path: Path, batch: Batch) -> None:
    klimb.train(recipe(), run=tmp_path / "once")
    klimb.train(recipe(training={"steps": 2}), run=tmp_path / "twice")
    klimb.train(recipe(), run=tmp_path / "twice")
    last = "checkpoints/step-000004"
    for file in ("lora.safetensors", "optimizer.safetensors", "model/model.safetensors", "remembered.safetensors"):
        assert (tmp_path / "once" / last / file).read_bytes() == (tmp_path / "twice" / last / file).read_bytes()
    assert len(load_file(tmp_path / "once" / last / "optimizer.safetensors")) == 2 * 28
    settings = recipe().model.at(tmp_path / "once" / last / "model")
    assert settings.lora is None and torch.isfinite(logps(load(settings), batch)).all()


def test_bfloat16_weights_get_float32_matrices(batch: Batch) -> None:
    policy = opened(precision="bfloat16")
    assert {weight.dtype for weight in policy.parameters()} == {torch.float32}
    assert policy.dtype == torch.bfloat16 and torch.isfinite(logps(policy, batch)).all()


@pytest.mark.parametrize(
    ("lora", "found"),
    [
        ({"targets": ("lm_head",)}, "no such linear layer"),
        ({"targets": ("q_proj", "wrong")}, "no such linear layer"),
        ({"path": Path("nowhere")}, "no adapter_model.safetensors"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(lora: dict[str, Any], found: str) -> None:
    with pytest.raises(ModelError, match=found):
        opened(lora=lora)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    opened().save(tmp_path / "model")
    with pytest.raises(ModelError, match="of another shape"):
        opened(lora={"path": tmp_path / "model" / "adapter"}, tiny={"hidden": 32})


def test_dropout_and_an_average_of_weights_are_refused_with_an_adapter() -> None:
    with pytest.raises(SettingsError, match="dropout"):
        recipe(model={"lora": {"dropout": 0.1}})
    with pytest.raises(SettingsError, match="schedule_free"):
        recipe(optimizer={"type": "schedule_free"})


def test_without_peft_an_adapter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="klimb"):
        opened()
