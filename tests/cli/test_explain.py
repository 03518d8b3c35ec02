"""`klimb explain` and `--dry-run`."""

from __future__ import annotations

from pathlib import Path

import pytest

from klimb.cli import recipes
from klimb.cli.arithmetic import arithmetic
from klimb.cli.explaining import explain
from klimb.cli.sizes import sizes_of
from klimb.cli.training import described
from klimb.config import resolve
from klimb.errors import DataError, SettingsError
from klimb.policy.base import PolicySettings
from klimb.recipe import Recipe
from klimb.yamltext import parse
from tests.sources.test_replayed import group, log

GOOD = {
    "model": {"name": "tiny"},
    "data": {"type": "digit-sum"},
    "rewards": [{"type": "exact"}],
    "objective": {"type": "grpo"},
    "source": {"prompts": 5, "completions": 4, "epochs": 2, "minibatches": 2},
    "sampling": {"max_tokens": 10},
    "training": {"steps": 10, "micro_tokens": 64},
    "evaluation": {"every": 4, "problems": 7},
    "checkpoints": {"every": 3, "keep": 2},
}


def test_a_setting_is_explained_with_kind_default_and_help() -> None:
    assert explain("optimizer.lr").splitlines() == [
        "optimizer.lr (of type adamw, type schedule_free)",
        "  The learning rate after the warm-up.",
        "  value:   a number from 0 to 1",
        "  default: 1e-05",
    ]


def test_choices_are_named() -> None:
    assert "auto, bfloat16 or float32" in explain("model.precision")


def test_a_setting_of_one_type_is_found_with_and_without_its_type() -> None:
    assert explain("objective.form").splitlines()[0] == "objective.form (of type rpg)"
    assert explain("objective.rpg.form").splitlines()[0] == "objective.rpg.form"
    assert "differentiable or reinforce" in explain("objective.rpg.form")


def test_a_section_names_each_of_its_settings() -> None:
    text = explain("sampling")
    assert all(f"  {name} = " in text for name in ("temperature", "top_p", "top_k", "max_tokens", "stop"))


def test_a_union_names_each_of_its_types_and_the_default() -> None:
    text = explain("objective")
    assert "type: grpo" in text
    assert "type: rpg" in text
    assert "type: every (the default)" in explain("selector") or "type = every" in explain("selector")


def test_every_setting_of_a_recipe_can_be_explained() -> None:
    from klimb.schema import leaves

    for path in set(leaves(Recipe)):
        text = explain(path)
        assert text.startswith(".".join(part for part in path.split(".") if not part.isdigit())), path


def test_every_setting_has_help_or_is_a_type() -> None:
    from klimb.schema import leaves, shape_at

    silent = []
    for path in set(leaves(Recipe)):
        shape = shape_at(Recipe, path.split("."))
        assert shape is not None, path
        if not path.endswith((".type", ".0")) and not (shape.field and shape.field.description):
            silent.append(path)
    assert silent == []


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"try: .*training\.steps"):
        explain("trainning.steps")


def test_nothing_given_names_the_sections() -> None:
    assert all(f"\n  {name} " in explain(None) for name in Recipe.model_fields)


def test_a_recipe_is_explained_by_header_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "sums.yaml"
    path.write_text("# Learns sums.\n# paper: none\nmodel: {name: tiny}\n# not the header\n")
    assert recipes.header(path) == "Learns sums.\npaper: none"
    path.write_text("# Learns sums.\n" + described(resolve(Recipe, GOOD)))
    text = explain(str(path))
    assert text.startswith(f"{path}\n  Learns sums.\n")
    assert "max_tokens: 10" in text


@pytest.mark.parametrize(("name", "unread"), [("hypo", "data"), ("replay", "replay")])
def test_a_recipe_is_explained_without_the_files_it_reads_and_a_dry_run_wants_them(
    name: str, unread: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = [line for line in explain(name).splitlines() if line.startswith(f"# {unread} ")]
    assert line.startswith(f"# {unread:<12} not known: ") and "try: " in line
    with pytest.raises(DataError):
        described(recipes.load(name))


def test_the_dry_run_is_a_recipe_again() -> None:
    recipe = resolve(Recipe, GOOD)
    assert resolve(Recipe, parse(described(recipe))[0]) == recipe


def test_the_arithmetic_adds_up() -> None:
    step, learning, run, data, evaluation, checkpoints, memory = arithmetic(resolve(Recipe, GOOD))
    assert "5 prompts x 4 completions = 20 rows" in step
    assert "at most 200 completion tokens" in step
    assert "2 epochs x 2 minibatches = 4 optimizer steps a step" in learning
    assert "about 7 parts of 64 tokens" in learning  # three prompts in the larger half: 3 x (100 + 4 x 10) tokens
    assert "10 steps = 40 optimizer steps, 200 completions, at most 2,000 tokens sampled" in run
    assert "prompts to learn from" in data
    assert "4 times x at most 7 held-out problems = 28 completions, 12 %" in evaluation  # before, 4, 8, 10
    assert "4 saves, the newest 2 kept" in checkpoints
    assert "0.1 M weights" in memory


ECHO = GOOD | {"rewards": [], "data": {"type": "echo-pairs", "train": 50}, "source": {"type": "pairs", "prompts": 5}}
"""What learns from given answers."""


def lines(**changes: object) -> dict[str, str]:
    return {
        line.split()[1 if line.startswith(("a ", "the ")) else 0]: line
        for line in arithmetic(resolve(Recipe, ECHO | changes))
    }


def test_a_reward_model_in_training_is_promised_no_sample() -> None:
    found = lines(objective={"type": "bradley_terry"})
    assert "5 prompts x at most 2 given answers = at most 10 rows" in found["step"]
    assert "10 steps = 10 optimizer steps, 0 completions, at most 0 tokens sampled" in found["run"]
    assert "50 prompts to learn from, visited 1 times each" in found["data"]
    assert "4 times x at most 7 held-out pairs are read, nothing is sampled" in found["evaluation"]
    assert "sampling cache" not in found["memory"] and "activations" in found["memory"]


def test_one_that_learns_from_a_log_beside_prompts_without_answers_is_measured_by_nothing(tmp_path: Path) -> None:
    logged = {"type": "logged_pairs", "logs": str(log(tmp_path, *map(group, range(5)))), "prompts": 5}
    found = lines(objective={"type": "bradley_terry"}, source=logged, data={"type": "echo-digit"})
    assert "0 completions, at most 0 tokens sampled" in found["run"]
    assert "none: a reward model answers nothing, and data.type=echo-digit has no pairs" in found["evaluation"]
    assert "sampling cache" not in found["memory"]


def test_a_policy_that_learns_from_given_answers_samples_only_held_out_ones() -> None:
    found = lines(objective={"type": "dpo"})
    assert "0 completions, at most 0 tokens sampled" in found["run"]
    assert "4 times x at most 7 held-out problems = 28 completions, 100 % of all" in found["evaluation"]
    sizes = sizes_of(PolicySettings(name="tiny"))
    assert sizes is not None
    assert f"sampling cache {7 * (10 + 100) * sizes.cache_bytes / 1e6:.1f} MB" in found["memory"]


def test_the_size_of_a_model_is_read_from_its_files(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(10, 100), "b": torch.zeros(7)}, tmp_path / "model.safetensors", {"format": "pt"})
    config = '{"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}'
    (tmp_path / "config.json").write_text(config)
    sizes = sizes_of(PolicySettings(name=str(tmp_path), precision="float32"))
    assert sizes is not None
    assert (sizes.weights, sizes.cache_bytes, sizes.halved) == (1007, 2 * 4 * 2 * 4, False)
    halved = sizes_of(PolicySettings(name=str(tmp_path), precision="bfloat16"))
    assert halved is not None
    assert halved.cache_bytes == 2 * 4 * 2 * 2


def test_the_size_of_the_tiny_model_is_its_own() -> None:
    from klimb.policy.loading import load

    sizes = sizes_of(PolicySettings(name="tiny"))
    assert sizes is not None
    true = sum(weight.numel() for weight in load(PolicySettings(name="tiny")).parameters())
    assert abs(sizes.weights - true) / true < 0.02


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x05\x00\x00\x00\x00\x00\x00\x00hello"])
def test_a_model_whose_files_are_broken_has_no_known_size(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text("{}")
    assert sizes_of(PolicySettings(name=str(tmp_path))) is None
    assert "not known" in arithmetic(resolve(Recipe, GOOD | {"model": {"name": str(tmp_path)}}))[-1]
