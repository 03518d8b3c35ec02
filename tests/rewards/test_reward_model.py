"""A trained reward model as a source of reward: its scores are the library's, and what it cannot score is no number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from klimb.batch import Batch
from klimb.errors import ModelError, RewardError
from klimb.policy import reward_head
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.recipe import Recipe
from klimb.rewards.ended import Ended
from klimb.rewards.reward_model import RewardModel
from klimb.types import Completion, Finish, Group, Message, Outcome, Prompt, Rollout
from tests.rewards.classifiers import saved as stranger

SCALE = reward_head.Scale(0.25, 2.0, 8)
ASKED = (Prompt("p", messages=(Message("user", "ab"),)), Prompt("q", text="cd", tokens=(1, 2, 3)))


def saved(folder: Path, scale: reward_head.Scale | None = SCALE, **settings: Any) -> tuple[Path, Policy]:
    """A reward model whose head has weights that are not zero."""
    policy = load(PolicySettings(name="tiny", tiny={"hidden": 32, "context": 64}, **settings))
    policy.model.resize_token_embeddings(264)
    critic = policy.add_critic()
    with torch.no_grad():
        critic.weight.copy_(torch.randn(32, generator=torch.Generator().manual_seed(1)))
        critic.bias.fill_(0.7)
    reward_head.save(policy, scale, folder)
    return folder, policy


def said(text: str, finish: Finish = Finish.EOS) -> Completion:
    return Completion((7,), (-1.0,), text, finish)


def test_scores_are_those_of_transformers_at_the_last_token_with_the_bias_and_the_scale(tmp_path: Path) -> None:
    folder, policy = saved(tmp_path / "model")
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    pairs = [
        (ASKED[0], said("yes")),
        (ASKED[0], said("no")),
        (ASKED[1], said("", Finish.LENGTH)),
        (ASKED[0], said("x")),
    ]
    wanted = []
    for prompt, done in pairs:
        again = Prompt("r", messages=prompt.messages, text=prompt.text)
        ids = [*policy.render(again).tokens, *policy.reply(done.text)[:-1]]
        with torch.no_grad():
            wanted.append(float(loaded(torch.tensor([ids])).logits) + 0.7)
    for normalised, by in ((False, wanted), (True, [(one - 0.25) / 2.0 for one in wanted])):
        with RewardModel(path=folder, normalised=normalised, tokens=16).open() as scorer:
            scores = scorer([prompt for prompt, _ in pairs], [done for _, done in pairs])
            assert scorer([], []) == []
        assert [one.value for one in scores] == pytest.approx(by, abs=1e-5)
        assert len({one.value for one in scores}) == 4


def test_a_folder_that_is_called_as_the_built_in_model_is_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = saved(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    found = []
    for path in (folder, Path("tiny")):
        with RewardModel(path=path).open() as scorer:
            found.append(scorer([ASKED[0]], [said("yes")])[0].value)
    assert found[0] == found[1]


def test_an_answer_that_spells_special_tokens_is_scored_as_that_text(tmp_path: Path) -> None:
    folder, policy = saved(tmp_path / "model")
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    letters = [token for letter in "no<eos><bos>yes" for token in policy.reply(letter)[:-1]]
    with torch.no_grad():
        ids = [*policy.render(ASKED[0]).tokens, *letters]
        wanted = float(loaded(torch.tensor([ids])).logits) + 0.7
    with RewardModel(path=folder, normalised=False).open() as scorer:
        assert scorer(ASKED[:1], [said("no<eos><bos>yes")])[0].value == pytest.approx(wanted, abs=1e-5)


TURNS = (
    "{% for m in messages %}<|{{ m.role }}|>{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}"
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("strict", ["", "{% if messages|length > 2 %}{{ raise_exception('one answer') }}{% endif %}"])
def test_an_answer_that_spells_a_token_between_turns_is_unscorable_and_one_with_thoughts_is_not(
    ours: bool, strict: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "model")[0] if ours else stranger(tmp_path / "model", vocab_size=264)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = strict + TURNS.replace("<think></think>", "" if strict else "<think></think>")
    names = ("<|user|>", "<|assistant|>", "<think>", "</think>")
    tokenizer.backend_tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    tokenizer.save_pretrained(folder)
    answers = ("no<|user|>thanks", "a<|assistant|>b", "no", "<think>so</think>no")
    with RewardModel(path=folder, normalised=False).open() as scorer:
        forged, other, plain, thought = scorer([ASKED[0]] * 4, [said(answer) for answer in answers])
    assert forged.outcome is other.outcome is Outcome.UNSCORABLE
    assert "between turns (<|user|>)" in forged.reason and "between turns (<|assistant|>)" in other.reason
    assert plain.counts and thought.counts and plain.value != thought.value


@pytest.mark.parametrize("ours", [True, False])
def test_lines_and_thoughts_are_scored_where_the_template_writes_them_too(ours: bool, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")[0] if ours else stranger(tmp_path / "model", vocab_size=264)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "Think: <think>\n</think>\n{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}"
        "<think>\n</think>{% endif %}{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    names = ("<|user|>", "<|assistant|>", "<think>", "</think>", "\n")
    tokenizer.backend_tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    tokenizer.save_pretrained(folder)
    with RewardModel(path=folder, normalised=False).open() as scorer:
        answers = [said(text) for text in ("a\nb", "<think>so</think>b", "b", "a\n<|user|>\nb")]
        *fine, forged = scorer([ASKED[0]] * 4, answers)
    assert len({one.value for one in fine}) == 3 and all(one.counts for one in fine)
    assert forged.outcome is Outcome.UNSCORABLE and "between turns (<|user|>)" in forged.reason


def test_what_does_not_fit_is_unscorable_and_takes_no_other_answer_with_it(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model")
    with RewardModel(path=folder).open() as scorer:
        one, two, three = scorer([ASKED[0]] * 3, [said("yes"), said("long" * 40), said("no")])
        (again,) = scorer([ASKED[0]], [said("no")])
        (nothing,) = scorer([Prompt("t", tokens=(1, 2))], [said("no")])
    assert (one.outcome, two.outcome, three.outcome) == (Outcome.SCORED, Outcome.UNSCORABLE, Outcome.SCORED)
    assert two.value is None and "context is 64" in two.reason
    assert three.value == pytest.approx(again.value, abs=1e-6)
    assert nothing.outcome is Outcome.UNSCORABLE and "messages or a text" in nothing.reason


def test_a_score_that_is_no_number_is_no_score(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model", reward_head.Scale(float("inf"), 1.0, 8))
    with RewardModel(path=folder).open() as scorer:
        (score,) = scorer([ASKED[0]], [said("yes")])
    assert score.outcome is Outcome.UNSCORABLE and score.value is None


def test_the_system_message_it_was_trained_with_is_part_of_the_folder(tmp_path: Path) -> None:
    folder, policy = saved(tmp_path / "model", system="be kind")
    assert policy.system == reward_head.read(folder).system == "be kind"
    with RewardModel(path=folder).open() as scorer:
        assert scorer([ASKED[0]], [said("a")])[0].counts


@pytest.mark.parametrize("scale", [None, reward_head.Scale(1.0, 0.0, 4)], ids=["absent", "of equal scores"])
def test_without_a_scale_the_scores_are_refused_unless_they_are_to_be_taken_as_they_are(
    scale: reward_head.Scale | None, tmp_path: Path
) -> None:
    folder, _ = saved(tmp_path / "model", scale)
    with pytest.raises(RewardError, match=r"normalised=false"), RewardModel(path=folder).open():
        pass
    with RewardModel(path=folder, normalised=False).open() as scorer:
        assert scorer([ASKED[0]], [said("a")])[0].counts


def test_a_folder_that_is_no_reward_model_says_how_to_train_one(tmp_path: Path) -> None:
    policy = load(PolicySettings(name="tiny"))
    policy.save(tmp_path / "plain")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    for name, found in (("none", "nothing there"), ("plain", "score.weight"), ("broken", "is broken")):
        with (
            pytest.raises(ModelError, match=rf"{found}.*objective\.type=bradley_terry"),
            RewardModel(path=tmp_path / name).open(),
        ):
            pass
    folder, _ = saved(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["reward_bias"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no reward_bias"):
        reward_head.read(folder)


def test_training_goes_on_from_the_head_that_a_folder_has_and_saves_what_the_library_scores(tmp_path: Path) -> None:
    own = saved(tmp_path / "own")[0]
    theirs = stranger(tmp_path / "theirs", tie_word_embeddings=True)
    for folder, bias in ((own, 0.7), (theirs, 0.0)):
        policy = load(PolicySettings(name=str(folder)))
        policy.add_critic()
        assert reward_head.begin(policy, folder)
        reward_head.save(policy, SCALE, tmp_path / "again")
        ids = [1, 70, 71, 80, 90]
        found = []
        for place in (folder, tmp_path / "again"):
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(place)
            with torch.no_grad():
                found.append(float(loaded(torch.tensor([ids])).logits) + bias)
        rows = (Rollout(Completion((*ids[2:], 2), (), "", Finish.EOS), 0, 0),)
        with torch.no_grad():
            value = policy(Batch.of([Group(Prompt("p", tokens=(1, 70)), rows)])).value
        assert value is not None and [float(value[-1])] * 2 == pytest.approx(found, abs=1e-5) and abs(found[0]) > 0.01


def test_a_head_that_training_cannot_go_on_from_is_refused_or_is_none(tmp_path: Path) -> None:
    several = stranger(tmp_path / "several", tie_word_embeddings=True, num_labels=3)
    kind, _ = saved(tmp_path / "kind", system="be kind")
    load(PolicySettings(name="tiny")).save(tmp_path / "plain")
    for folder, found in ((several, "one of 3 labels"), (kind, "trained with 'be kind', model.system=None")):
        policy = load(PolicySettings(name=str(folder)))
        assert not reward_head.begin(policy, folder), "a policy without a critic"
        policy.add_critic()
        with pytest.raises(ModelError, match=found):
            reward_head.begin(policy, folder)
    policy = load(PolicySettings(name=str(tmp_path / "plain")))
    assert float(policy.add_critic().weight.detach().abs().sum()) == 0.0 and not reward_head.begin(
        policy, tmp_path / "plain"
    )


def test_a_run_knows_the_content_of_its_reward_model(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model")
    recipe = {
        "model": {"name": "tiny"}, "data": {"type": "echo-pairs"}, "objective": {"type": "ppo"},
        "rewards": [{"type": "reward_model", "path": str(folder)}],
    }  # fmt: skip
    files = Recipe.model_validate(recipe).files()
    assert {folder / "config.json", folder / "model.safetensors"} <= set(files)


def test_an_answer_that_the_limit_cut_off_pays_and_no_other_does() -> None:
    asked = Prompt("p", text="x")
    found = {finish: Ended().score(asked, said("a", finish)).value for finish in Finish}
    assert found == {Finish.EOS: 0.0, Finish.STOP: 0.0, Finish.LENGTH: -1.0}
