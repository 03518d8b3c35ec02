"""Models without an output layer: reward models of untied decoders train, save and score as transformers has it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertForMaskedLM, T5Config, ViTConfig

import klimb
from klimb.batch import Batch
from klimb.cli.preferring import Wanted, inspect
from klimb.cli.sizes import sizes_of
from klimb.config import resolve
from klimb.errors import ModelError
from klimb.look import run_views
from klimb.policy import loading
from klimb.policy.base import PolicySettings
from klimb.policy.causal import reads_ahead
from klimb.policy.loading import load
from klimb.policy.paths import Packed, Plain
from klimb.policy.tiny import tiny_tokenizer
from klimb.policy.trunk import Trunk, mute
from klimb.recipe import Recipe
from klimb.rewards.reward_model import RewardModel
from klimb.rollouts import read
from klimb.rundir import RunDir
from klimb.session import opened, problems_of
from klimb.types import Completion, Finish, Prompt
from tests.policy.zoo import CONFIGS, batch_of, model_of
from tests.rewards.classifiers import SIZES as NARROW
from tests.rewards.classifiers import saved as classifier


def untied(name: str, folder: Path) -> Path:
    """A causal language model whose output layer is not its embedding."""
    config = copy.deepcopy(CONFIGS[name])
    config.tie_word_embeddings = False
    model_of(config).save_pretrained(folder)
    tiny_tokenizer(128).save_pretrained(folder)
    return folder


def run(
    path: Path, model: Path, steps: int = 2, objective: str = "bradley_terry", fork: str | None = None
) -> klimb.RunResult:
    settings = {
        "model": {"name": str(model)}, "data": {"type": "echo-pairs", "train": 24},
        "objective": {"type": objective}, "source": {"type": "pairs", "prompts": 4},
        "optimizer": {"type": "adamw", "lr": 0.01, "warmup": 0}, "training": {"steps": steps},
        "evaluation": {"problems": 4}, "checkpoints": {"every": 1}, "sampling": {"max_tokens": 4},
    }  # fmt: skip
    return klimb.train(Recipe.model_validate(settings), run=path, fork=fork)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "classifier qwen2"])
def test_a_reward_model_of_an_untied_decoder_is_scored_by_transformers_as_by_us(kind: str, tmp_path: Path) -> None:
    word, _, name = kind.partition(" ")
    begins = word == "classifier"
    at = classifier(tmp_path / "model", name, tie_word_embeddings=False) if begins else untied(kind, tmp_path / "model")
    result = run(tmp_path / "run", at)
    assert (result.before["eval/reward_std"] > 0) == begins, "a head that is there is the one it begins with"
    assert result.after["eval/reward_std"] != result.before["eval/reward_std"]
    assert [n for n in load_file(result.model / "model.safetensors") if "head" in n or "embed_out" in n] == []
    assert not any("policy/entropy" in line for line in RunDir.open(result.path).read_metrics())
    theirs: Any = AutoModelForSequenceClassification.from_pretrained(result.model)
    policy, prompt = load(PolicySettings(name=str(result.model)), speaks=False), Prompt("p", text="abc")
    with RewardModel(path=result.model, normalised=False).open() as scorer:
        for text in ("7", "no", ""):
            (score,) = scorer([prompt], [Completion((7,), (), text, Finish.EOS)])
            ids = [*policy.render(prompt).tokens, *policy.reply(text)[:-1]]
            with torch.no_grad():
                wanted = float(theirs(torch.tensor([ids])).logits) + theirs.config.reward_bias
            assert score.value == pytest.approx(wanted, abs=1e-5) and abs(wanted) > 1e-3


def test_a_reward_model_of_an_untied_decoder_goes_on_to_the_same_bits_and_speaks_no_more(tmp_path: Path) -> None:
    folder = untied("llama", tmp_path / "model")
    whole = run(tmp_path / "whole", folder)
    run(tmp_path / "parts", folder, 1)
    parts = run(tmp_path / "parts", folder)
    for name in ("model/model.safetensors", "critic.safetensors", "optimizer.safetensors"):
        assert (whole.model.parent / name).read_bytes() == (parts.model.parent / name).read_bytes(), name
    with pytest.raises(ModelError, match=r"missing or of another shape: lm_head\.weight.*a reward model has no output"):
        load(PolicySettings(name=str(whole.model)))
    rows = [{"prompt": prompt, "chosen": "b", "rejected": "cd"} for prompt in "ae"]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    inspect(tmp_path / "pairs.jsonl", Wanted(model=str(whole.model)), as_json=tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["tokenized"]["answers"] == 4
    full, less = (sizes_of(PolicySettings(name=str(folder)), speaks) for speaks in (True, False))
    tensors = load_file(folder / "model.safetensors")
    assert full and less and full.weights - less.weights == tensors["lm_head.weight"].numel()
    assert less.weights == load(PolicySettings(name=str(whole.model)), speaks=False).weights
    further = run(tmp_path / "further", whole.model)
    assert further.before["eval/reward_mean"] == pytest.approx(whole.after["eval/reward_mean"], abs=1e-5)


def test_a_fork_leaves_the_output_layer_out_and_takes_it_up_again_as_the_model_has_it(tmp_path: Path) -> None:
    folder = untied("llama", tmp_path / "model")
    first = run(tmp_path / "dpo", folder, 1, "dpo")
    scores = run(tmp_path / "scores", folder, 2, fork=f"{first.path}@1")
    again = run(tmp_path / "again", folder, 3, "dpo", f"{scores.path}@2")
    (begun,) = (event["what"] for event in RunDir.open(again.path).read_events() if event["kind"] == "begun_anew")
    assert begun == ["lm_head.weight", "remembered"]
    begins, moments = (
        load_file(RunDir(again.path).checkpoint(2) / name)
        for name in ("model/model.safetensors", "optimizer.safetensors")
    )
    trunk = load_file(scores.model / "model.safetensors")
    wanted = {**load_file(folder / "model.safetensors"), **{n: w for n, w in trunk.items() if n != "score.weight"}}
    assert begins.keys() == wanted.keys() and all(torch.equal(begins[name], wanted[name]) for name in wanted)
    assert not moments["first.lm_head.weight"].any() and moments["first.model.embed_tokens.weight"].any()
    ends = load_file(again.model / "model.safetensors")
    assert not torch.equal(ends["lm_head.weight"], begins["lm_head.weight"]), "it learns"


def test_a_lens_on_a_reward_model_of_an_untied_decoder_shows_what_the_initial_model_says(tmp_path: Path) -> None:
    folder = untied("llama", tmp_path / "model")
    scores = run(tmp_path / "scores", folder)
    (view,) = run_views(scores.path)
    batch = Batch.of(read(RunDir.open(scores.path).rollout(2)))
    with torch.no_grad():
        wanted = load(PolicySettings(name=str(folder)))(batch).logp.numpy()
    assert view.policy == "the initial policy" and view.values["logp"] == pytest.approx(wanted, abs=1e-4)
    assert "kl" not in view.values and "bradley_terry trains values" in " ".join(view.missing)
    further = run(tmp_path / "further", scores.model, 1)
    (view,) = run_views(further.path)
    assert view.values == {} and "lm_head" in " ".join(view.missing)
    assert view.words(77) == tiny_tokenizer(128).decode([77]), "the tokenizer is there without a policy"


@pytest.mark.parametrize("way", ["packed", "plain", "own logits"])
def test_its_values_are_those_of_the_same_model_with_an_output_layer(way: str, tmp_path: Path) -> None:
    folder = untied("gemma2", tmp_path / "model")
    found = []
    for speaks in (True, False):
        settings = PolicySettings(name=str(folder), path="packed" if way == "packed" else "plain")
        policy = load(settings, speaks=speaks)
        if way == "own logits":
            policy.path = Plain(policy.model, None)
        critic = policy.add_critic()
        with torch.no_grad():
            critic.weight.copy_(torch.randn(critic.weight.shape, generator=torch.Generator().manual_seed(1)))
        found.append(policy(batch_of()))
        assert isinstance(policy, Trunk) != speaks
    (both, alone), named = found, [name for name, _ in policy.named_parameters()]
    assert both.value is not None and alone.value is not None
    torch.testing.assert_close(alone.value, both.value, atol=1e-5, rtol=0)
    assert not alone.logp.any() and not alone.entropy.any() and both.logp.any()
    assert "lm_head.weight" not in named and "critic.weight" in named


def test_an_encoder_is_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    alone = tmp_path / "masked"
    BertForMaskedLM(BertConfig(**NARROW)).save_pretrained(alone)
    tiny_tokenizer(96).save_pretrained(alone)
    for folder in (alone, *(classifier(tmp_path / name, name) for name in ("bert", "deberta", "xlnet"))):
        for speaks in (True, False):
            with pytest.raises(ModelError, match=r"see only those before them.*model_type=.*an encoder can score"):
                load(PolicySettings(name=str(folder)), speaks=speaks)


def test_the_folder_of_a_hub_name_is_where_the_hub_put_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--some--model/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({}))
    (tmp_path / "models--some--model/refs").mkdir()
    (tmp_path / "models--some--model/refs/main").write_text("abc")
    assert loading.folder_of("some/model") == snapshot and loading.folder_of("another/model") is None
    assert loading.folder_of(str(snapshot)) == snapshot


def test_models_of_another_kind_are_not_called_encoders_and_nor_is_one_that_hides_its_states_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for config in (T5Config(), ViTConfig()):
        config.save_pretrained(tmp_path / config.model_type)
        with pytest.raises(ModelError, match=f"model_type={config.model_type}, which is another kind") as refused:
            load(PolicySettings(name=str(tmp_path / config.model_type)))
        assert "encoder" not in refused.value.line()
    encoder = BertForMaskedLM(BertConfig(**NARROW))
    named = SimpleNamespace(get_input_embeddings=encoder.bert.get_input_embeddings)  # and cannot be called
    monkeypatch.setattr(BertForMaskedLM, "base_model", property(lambda _: named))
    assert reads_ahead(encoder) and not reads_ahead(model_of(CONFIGS["llama"]))


@pytest.mark.parametrize("rows", [1e-3, 1e3])
def test_paths_of_a_model_without_an_output_layer_are_compared_by_hidden_states(
    rows: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(CONFIGS["llama"])
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(rows)
    model.config.tie_word_embeddings = False
    mute(model)
    policy = Trunk.of(copy.deepcopy(model), tiny_tokenizer(128), PolicySettings())
    assert isinstance(policy.path, Packed), policy.describe()
    real = Packed.hidden
    monkeypatch.setattr(Packed, "hidden", lambda self, packing: real(self, packing).roll(1, 0))
    wrong = Trunk.of(model, tiny_tokenizer(128), PolicySettings())
    assert "packed does not fit: hidden states differ by" in wrong.describe()


def test_an_output_layer_that_transformers_does_not_name_is_refused_and_one_of_another_shape_stays() -> None:
    model = model_of(CONFIGS["llama"])
    model.get_output_embeddings = lambda: None
    with pytest.raises(ModelError, match="LlamaForCausalLM, whose output layer transformers does not name"):
        mute(model)
    other = model_of(CONFIGS["llama"])
    other.lm_head = torch.nn.Linear(other.config.hidden_size, 5)
    assert mute(other) == set() and other.lm_head.weight.shape[0] == 5


def test_what_draws_answers_keeps_its_output_layer_though_nothing_reads_their_log_probs(tmp_path: Path) -> None:
    model, mine = untied("llama", tmp_path / "llama"), tmp_path / "mine.py"
    mine.write_text(
        "from klimb.objectives import PPO\n\nclass Mine(PPO):\n    reads_logp = property(lambda self: False)\n", "utf-8"
    )
    settings = {"model": {"name": str(model)}, "data": {"type": "echo-digit"}, "rewards": [{"type": "exact"}]}
    recipe = resolve(Recipe, {**settings, "objective": {"type": "custom", "path": f"{mine}:Mine"}})
    assert not recipe.objective.reads_logp
    with opened(recipe, problems_of(recipe)) as session:
        assert not isinstance(session.policy, Trunk)
        wanted = load_file(model / "model.safetensors")["lm_head.weight"]
        assert torch.equal(session.policy.model.get_output_embeddings().weight, wanted)
