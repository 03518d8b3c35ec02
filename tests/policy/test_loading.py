"""Policies open from settings; every model that cannot work ends in one error with its cure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from klimb.errors import ModelError
from klimb.policy.base import PolicySettings, TinySizes
from klimb.policy.loading import load
from tests.policy.zoo import CONFIGS, batch_of, model_of


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "good"
    load(PolicySettings(), seed=1).save(folder)
    return folder


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

    return rewrite


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def shards(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def torn_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map"')


def no_eos(folder: Path) -> None:
    for name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        path = folder / name
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "eos_token"}))
    config(eos_token_id=None)(folder)
    generation = folder / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": None}))


def nan(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors["model.norm.weight"][0] = float("nan")
    return tensors


def smaller(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**tensors, "model.norm.weight": tensors["model.norm.weight"][:-1].clone()}


def torn_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model')


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def lost(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name != "model.layers.1.mlp.up_proj.weight"}


BROKEN: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "no config": (without("config.json"), "wants a config.json", "save_pretrained"),
    "torn config": (
        torn_config,
        "configuration that can be read",
        "config.json",
    ),
    "unknown type": (config(model_type="flux9"), "configuration that can be read", "transformers knows"),
    "code of its author": (
        config(model_type="mine", auto_map={"AutoConfig": "x.Y"}),
        "configuration that can be read",
        "never run",
    ),
    "an encoder": (config(model_type="distilbert"), "wants a causal language model", "decoder"),
    "encoder-decoder": (config(model_type="t5", is_encoder_decoder=True), "wants a causal language model", "decoder"),
    "quantised": (config(quantization_config={"quant_method": "gptq", "bits": 4}), "can be trained", "before it was"),
    "pickled weights": (pickled, "pickle, which may run code", "safe serialization"),
    "no weights": (without("model.safetensors"), r"no \*.safetensors", "complete download"),
    "torn weights": (truncated, "wants weights that load", "again"),
    "a lost shard": (shards, "00002-of-00002.safetensors is missing", "complete download"),
    "a torn index": (torn_index, "index.json that can be read", "complete download"),
    "a lost weight": (weights(lost), "up_proj", "complete download"),
    "a weight of another shape": (weights(smaller), "wants weights", ""),
    "not a number": (weights(nan), "NaN or infinity in model.norm.weight", "again"),
    "no tokenizer": (no_tokenizer, "wants a tokenizer", "tokenizer.json"),
    "no end": (no_eos, "wants an end-of-text token", "eos_token in tokenizer_config.json"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_ends_in_one_error_that_names_the_fault_and_the_cure(
    name: str, good: Path, tmp_path: Path
) -> None:
    spoil, found, cure = BROKEN[name]
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    spoil(folder)
    with pytest.raises(ModelError, match=found) as caught:
        load(PolicySettings(name=str(folder)))
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert cure in caught.value.cure


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("/no/such/folder", "nothing there"),
        ("./nothing", "nothing there"),
        ("a b c", "nothing there"),
        ("no-such", "config"),
    ],
)
def test_a_name_that_is_no_model_is_an_error(name: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=found) as caught:
        load(PolicySettings(name=name))
    assert caught.value.cure


def test_a_file_is_not_a_folder(good: Path) -> None:
    with pytest.raises(ModelError, match="wants a folder"):
        load(PolicySettings(name=str(good / "config.json")))


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_an_error(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model_of(CONFIGS["llama"].__class__(**{**CONFIGS["llama"].to_dict(), "vocab_size": 200})).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(good / name, folder / name)
    with pytest.raises(ModelError, match=r"tokenizer of at most 200 tokens; found: one of 259"):
        load(PolicySettings(name=str(folder)))


def test_tiny_sizes_that_do_not_divide_are_an_error() -> None:
    with pytest.raises(ModelError, match="heads that divide hidden"):
        load(PolicySettings(tiny=TinySizes(heads=5)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match="GPU that torch can see"):
        load(PolicySettings(device="cuda"))


def test_the_version_follows_the_weights() -> None:
    policy = load(PolicySettings(), seed=3)
    before = policy.version()
    assert before == policy.version() == load(PolicySettings(), seed=3).version()
    weight = next(policy.parameters())
    with torch.no_grad():
        weight[0, 0] += 1e-3
    changed = policy.version()
    weight.data[[4, 5]] = weight.data[[5, 4]]
    assert len({before, changed, policy.version(), load(PolicySettings(), seed=4).version()}) == 4


def test_tiny_is_drawn_from_its_seed_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    load(PolicySettings(), seed=1)
    assert torch.equal(torch.rand(3), wanted)


def test_tiny_learns_to_prefer_a_byte_in_seconds() -> None:
    policy = load(PolicySettings(), seed=0)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    batch = batch_of(prompts=(6,), rows=((0, 8), (0, 8)))
    batch = batch.replace(tokens=torch.full_like(batch.tokens, 40))
    before = float(policy(batch).logp.mean().detach())
    for _ in range(30):
        optimizer.zero_grad()
        (-policy(batch).logp.mean()).backward()
        optimizer.step()
    assert before < -4.5 and float(policy(batch).logp.mean().detach()) > -0.2
