"""A policy with its value head, saved as a reward model that `AutoModelForSequenceClassification` loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from klimb.policy.policy import Policy


def save(policy: Policy, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
    """Writes the folder of the policy with `score.weight` in it and one label in its configuration.

    It scores a prompt and an answer without EOS, at the last token. The library's head has no bias: that of ours stands
    in config.json as `reward_bias`, to be added; comparing answers needs none.
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
    config["pad_token_id"] = (
        policy.tokenizer.pad_token_id if config.get("pad_token_id") is None else config["pad_token_id"]
    )
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
