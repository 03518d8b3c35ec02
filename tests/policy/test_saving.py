"""What is saved loads again: weights, masters, tokenizer and generation settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from tests.policy.zoo import CONFIGS, batch_of, policy_of


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "good"
    load(PolicySettings(), seed=1).save(folder)
    return folder


def test_what_is_saved_loads_bit_equal_and_computes_the_same(good: Path) -> None:
    first, second = load(PolicySettings(), seed=1), load(PolicySettings(name=str(good)), seed=9)
    for (name, weight), (other, loaded) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert name == other and torch.equal(weight, loaded)
    assert first.version() == second.version()
    batch = batch_of()
    assert torch.equal(first(batch).logp, second(batch).logp)
    assert (set(second.eos_ids), second.context) == ({2}, 512)
    assert second.tokenizer.chat_template == first.tokenizer.chat_template


def test_saving_twice_writes_the_same_bytes(good: Path, tmp_path: Path) -> None:
    load(PolicySettings(name=str(good))).save(tmp_path / "again")
    for path in sorted(good.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("changes", [{}, {"do_sample": False, "pad_token_id": -1, "num_return_sequences": 3}])
def test_a_model_whose_generation_settings_transformers_refuses_is_saved_all_the_same(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    policy = load(PolicySettings(), seed=1)
    for name, value in {"temperature": 0.7, "top_p": 0.9, **changes}.items():
        setattr(policy.model.generation_config, name, value)
    for folder in (tmp_path / "one", tmp_path / "two"):
        policy.save(folder)
    written = (tmp_path / "one" / "generation_config.json").read_bytes()
    assert written == (tmp_path / "two" / "generation_config.json").read_bytes()
    saved = json.loads(written)
    assert (saved["bos_token_id"], saved["eos_token_id"]) == (1, 2)
    kept = {name: saved.get(name) for name in ("do_sample", "temperature", "top_p")}
    wanted = (None, None, None) if changes else (True, 0.7, 0.9)  # a pad id of -1 is refused, whatever else is right
    assert tuple(kept.values()) == wanted
    assert load(PolicySettings(name=str(tmp_path / "one"))).version() == policy.version()


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_float32_masters_are_saved_in_place_of_bfloat16_weights(name: str, tmp_path: Path) -> None:
    policy = policy_of(CONFIGS[name])
    masters = {key: weight.detach().clone() for key, weight in policy.named_parameters()}
    policy.model.bfloat16()
    policy.save(tmp_path, masters)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    loaded = load(PolicySettings(name=str(tmp_path), precision="float32"))
    assert all(torch.equal(weight, masters[key]) for key, weight in loaded.named_parameters())
