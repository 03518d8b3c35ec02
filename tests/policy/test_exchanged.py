"""A model whose output layer alone was exchanged is another model to what speaks, and the same to what scores."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from klimb.errors import ModelError
from klimb.look import run_views
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.training.state import Progress, read_progress
from tests.policy.test_trunk import run, untied


def exchange(folder: Path) -> None:
    """Puts another output layer into a model's folder."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "lm_head.weight": tensors["lm_head.weight"] + 1.0}, file, metadata={"format": "pt"})


def test_a_run_does_not_go_on_with_another_output_layer_and_a_lens_does_not_take_it_for_the_first(
    tmp_path: Path,
) -> None:
    folder = untied("llama", tmp_path / "model")
    first = run(tmp_path / "dpo", folder, 1, "dpo")
    exchange(folder)
    with pytest.raises(ModelError, match=r"began from the output layer \w{16};.* now holds the output layer \w{16};"):
        run(first.path, folder, 2, "dpo")
    (view,) = run_views(first.path)
    assert "now holds other weights than the run began with" in " ".join(view.missing)


def test_a_run_that_kept_no_version_of_its_output_layer_goes_on_and_keeps_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = untied("llama", tmp_path / "model")
    with monkeypatch.context() as before:
        before.setattr(Policy, "output_version", lambda policy: "")
        first = run(tmp_path / "dpo", folder, 1, "dpo")
    further = run(first.path, folder, 2, "dpo")
    kept = read_progress(further.model.parent).output
    assert kept == load(PolicySettings(name=str(folder))).output_version() != ""


def test_the_version_of_an_output_layer_is_empty_where_there_is_none_of_its_own(tmp_path: Path) -> None:
    settings = PolicySettings(name=str(untied("llama", tmp_path / "model")))
    versions = [
        policy.output_version() for policy in (load(settings), load(settings, speaks=False), load(PolicySettings()))
    ]
    assert versions[0] and versions[1:] == ["", ""]
    exchange(Path(settings.name))
    changed = load(settings)
    began = Progress(initial=changed.version(), output=versions[0])
    assert not began.began_as(changed.version(), changed.output_version())
    assert began.began_as(changed.version(), "") and not began.began_as("", "")
