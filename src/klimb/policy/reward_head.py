"""A policy with its value head as a reward model: a folder that `AutoModelForSequenceClassification` loads too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date as Day
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from klimb.errors import ModelError
from klimb.policy.dated import ASKS

if TYPE_CHECKING:
    from klimb.policy.policy import Policy

TRAIN = (
    "a folder checkpoints/step-N/model of a run with objective.type=bradley_terry, as recipes/tiny-reward-model.yaml"
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and spread (population) of the rewards of `answers` answers that were held out from training."""

    mean: float
    std: float
    answers: int


@dataclass(frozen=True, slots=True)
class Head:
    """What a saved reward model adds to a language model. `scale` is None where no answers were held out.

    `date` is what its chat template was told; None of models that did not keep it, or whose template asks for none.
    """

    weight: Tensor
    bias: float
    system: str | None
    date: Day | None
    scale: Scale | None


def save(policy: Policy, scale: Scale | None, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
    """Writes the folder of the policy with `score.weight` in it and one label in its configuration.

    It scores a prompt and an answer without EOS, at the last token. The library's head has no bias: that of ours stands
    in config.json as `reward_bias`, to be added; comparing answers needs none. `reward_scale` normalises.
    """
    critic = policy.critic
    assert critic is not None, "a reward model has a value head"
    head, bias = critic.weight, critic.bias
    policy.save(folder, state_dict)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    kind = next(iter(tensors.values())).dtype
    save_file({**tensors, "score.weight": head.detach().cpu()[None].to(kind)}, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"id2label": {"0": "reward"}, "label2id": {"reward": 0}, "reward_bias": float(bias.detach())}
    if scale is not None:
        config["reward_scale"] = {"mean": scale.mean, "std": scale.std, "answers": scale.answers}
    if policy.system is not None:
        config["reward_system"] = policy.system
    if policy.date is not None and ASKS in str(policy.tokenizer.chat_template):
        config["reward_date"] = policy.date.isoformat()
    config["pad_token_id"] = (
        policy.tokenizer.pad_token_id if config.get("pad_token_id") is None else config["pad_token_id"]
    )
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def is_ours(folder: Path) -> bool:
    """Whether klimb trained what is there: it reads an answer as klimb tokenizes it. Raises ModelError where broken."""
    return (folder / "config.json").is_file() and "reward_bias" in _config(folder)


def scale_of(config: Mapping[str, Any]) -> Scale | None:
    """The `reward_scale` of a model's configuration, klimb's or not."""
    known = config.get("reward_scale")
    return Scale(float(known["mean"]), float(known["std"]), int(known["answers"])) if known else None


def read(folder: Path) -> Head:
    """The head of a saved reward model. Raises ModelError where the folder holds none that klimb has trained."""
    config, weight = _config(folder), _weight(folder)
    if weight is None or weight.shape[0] != 1 or "reward_bias" not in config:
        lacks = "no head of one score" if weight is None or weight.shape[0] != 1 else "no reward_bias in config.json"
        raise ModelError(f"{str(folder)!r} as a reward model", lacks, TRAIN)
    told = config.get("reward_date")
    day = Day.fromisoformat(told) if told else None
    return Head(weight[0].float(), float(config["reward_bias"]), config.get("reward_system"), day, scale_of(config))


def begin(policy: Policy, folder: Path) -> bool:
    """Puts the head of one score that a folder has into the policy's critic; says whether there was one.

    The policy is the folder's own trunk. Raises ModelError where the folder's head has several labels, or was trained
    with another system message.
    """
    weight, critic = _weight(folder), policy.critic
    if weight is None or critic is None:
        return False
    config = _config(folder)
    if weight.shape[0] != 1:
        cure = "a model of one label, or the model that it was trained from"
        raise ModelError(f"go on training the head of {folder}", f"one of {weight.shape[0]} labels", cure)
    if "reward_bias" in config and config.get("reward_system") != policy.system:
        found = f"it was trained with {config.get('reward_system')!r}, model.system={policy.system!r}"
        raise ModelError(f"go on training the head of {folder}", found, "the same system message in model.system")
    critic.restore({"weight": weight[0], "bias": torch.tensor(float(config.get("reward_bias", 0.0)))})
    return True


def normalise(policy: Policy, folder: Path) -> Scale | None:
    """Puts the critic, begun as the folder's head, into the units of its normalised rewards: (V - mean) / spread.

    Gives the scale; None, and nothing done, where the folder has none that can be used.
    """
    scale, critic = scale_of(_config(folder)), policy.critic
    if critic is None or scale is None or scale.std == 0:
        return None
    with torch.no_grad():
        critic.weight.div_(scale.std)
        critic.bias.sub_(scale.mean).div_(scale.std)
    return scale


def _weight(folder: Path) -> Tensor | None:
    """The weight of the head (labels, d), where there is one."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as held:
            if "score.weight" in held.keys():  # noqa: SIM118 (a handle, no mapping)
                weight: Tensor = held.get_tensor("score.weight")
                return weight
    return None


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        found = "no config.json in it" if folder.is_dir() else "no such folder"
        raise ModelError(f"{str(folder)!r} as a reward model", found, TRAIN)
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(
            f"{str(folder)!r} as a reward model", f"a config.json that is broken: {error}", TRAIN
        ) from None
    return config if isinstance(config, dict) else {}
