"""How large a model is, read from its files: no torch, and no weight is loaded."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.policy.output import OUTPUT
from klimb.processor import has_fast_bfloat16

if TYPE_CHECKING:
    from klimb.policy.base import PolicySettings

LARGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """`weights`: how many. Per token: `cache_bytes` of the sampling cache, `kept_bytes` of the activations kept."""

    weights: int
    cache_bytes: int
    kept_bytes: int
    halved: bool


def sizes_of(model: PolicySettings, speaks: bool = True) -> Sizes | None:
    """The sizes of the model that the settings name, or None where its files are not on this machine.

    Where it need not speak, without an output layer of its own, which is then left out.
    """
    if model.name == "tiny":
        return _tiny(model)
    folder = _folder(model.name)
    if folder is None:
        return None
    try:
        weights = sum(_weights(path, speaks) for path in folder.glob("*.safetensors"))
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return _sizes(weights, config.get("text_config", config), _halves(model)) if weights else None
    except (OSError, ValueError, KeyError, TypeError, struct.error, AttributeError):
        return None


def _tiny(model: PolicySettings) -> Sizes:
    t = model.tiny
    attention = t.hidden * t.hidden * (2 + 2 * t.kv_heads / t.heads)
    weights = 259 * t.hidden + t.layers * (attention + 9 * t.hidden**2)
    config = {
        "hidden_size": t.hidden,
        "intermediate_size": 3 * t.hidden,
        "num_hidden_layers": t.layers,
        "num_attention_heads": t.heads,
        "num_key_value_heads": t.kv_heads,
    }
    return _sizes(int(weights), config, model.precision == "bfloat16")


def _sizes(weights: int, config: dict[str, Any], halved: bool) -> Sizes:
    bytes_each = 2 if halved else 4
    hidden, layers = config.get("hidden_size") or config["n_embd"], config.get("num_hidden_layers") or config["n_layer"]
    heads = config.get("num_attention_heads") or config["n_head"]
    inner = config.get("intermediate_size") or 4 * hidden
    key = (config.get("head_dim") or hidden // heads) * (config.get("num_key_value_heads") or heads)
    cache = 2 * key * layers * bytes_each
    kept = (4 * hidden + 3 * inner + 2 * key) * layers * bytes_each
    return Sizes(weights, cache, kept, halved)


def _halves(model: PolicySettings) -> bool:
    return model.precision == "bfloat16" or (model.precision == "auto" and has_fast_bfloat16())


def _folder(name: str) -> Path | None:
    from klimb.policy.pull import resolve

    folder = Path(name).expanduser()
    return folder if folder.is_dir() else resolve(name)


def _weights(path: Path, speaks: bool) -> int:
    """How many numbers a safetensors file holds, by its header; its output layer's only where the model speaks."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        if size > LARGEST_HEADER:
            raise ValueError(f"the header of {path} has {size} bytes")
        header = json.loads(file.read(size))

    def counted(name: str) -> bool:
        return name != "__metadata__" and (speaks or not name.startswith(OUTPUT))

    return sum(math.prod(entry["shape"]) for name, entry in header.items() if counted(name))
