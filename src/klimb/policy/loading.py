"""Opens a policy from its settings: finds the model, refuses what cannot work, and says why."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from klimb import cycles
from klimb.errors import ModelError
from klimb.policy import hardware
from klimb.policy.base import PolicySettings
from klimb.policy.causal import not_causal, reads_ahead
from klimb.policy.output import OUTPUT, own_output
from klimb.policy.policy import Policy
from klimb.policy.quiet import quiet
from klimb.policy.texts import Texts
from klimb.policy.tiny import tiny_config, tiny_model, tiny_tokenizer
from klimb.policy.trunk import Trunk, mute

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SMALL = 32 << 20
SCORES = "; a reward model has no output layer: objective.type=bradley_terry trains it, rewards score with it"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def load(settings: PolicySettings, seed: int = 0, speaks: bool = True, like: Policy | None = None) -> Policy:
    """The policy that the settings name. `seed` draws the tiny model's weights and a fresh adapter, and nothing else.

    Where it need not speak its output layer is left out: a folder without one will do, and only values can be read.
    Where it is built as the policy `like` is, it is computed in the same way, which is not looked for again.
    Raises ModelError for a model that is missing, broken, or not a causal language model.
    """
    cycles.search_as_usual()
    hardware.keep_freed_pages()
    hardware.bound_primitives()
    device = hardware.device_of(settings.device)
    if settings.name == "tiny":
        dtype = hardware.dtype_of(settings.precision, device, small=True)
        tokenizer: PreTrainedTokenizerBase = tiny_tokenizer(settings.tiny.context)
        model: Any = tiny_model(settings.tiny, len(tokenizer), seed).to(dtype)
    else:
        place = place_of(settings.name)
        dtype = hardware.dtype_of(settings.precision, device, small=is_small(place))
        model, tokenizer = _pretrained(settings.name, place, dtype, speaks)
    _check_fit(settings.name, model, tokenizer)
    return (Policy if speaks else Trunk).of(model.to(device), tokenizer, settings, seed, like)


def output_of(settings: PolicySettings) -> set[str]:
    """The names of the weights that only the output layer of a model has; none is loaded. Raises ModelError."""
    if settings.name == "tiny":
        return set()  # its output layer is the embedding
    with torch.device("meta"), quiet():
        return own_output(AutoModelForCausalLM.from_config(_causal(settings.name, place_of(settings.name))))


def texts_of(settings: PolicySettings) -> Texts:
    """How the model that the settings name reads and writes text, whatever kind of model it is. Raises ModelError.

    Its weights are not loaded, and need not be there.
    """
    if settings.name == "tiny":
        tokenizer: PreTrainedTokenizerBase = tiny_tokenizer(settings.tiny.context)
        return Texts(tokenizer, tiny_config(settings.tiny, len(tokenizer)), None, settings.system, settings.date)
    place = place_of(settings.name)
    config, tokenizer = config_of(settings.name, place), tokenizer_of(settings.name, place)
    try:
        generation: Any = GenerationConfig.from_pretrained(place)
    except OSError:  # most models that generate nothing have none
        generation = None
    return Texts(tokenizer, config, generation, settings.system, settings.date)


def is_small(place: Path | str) -> bool:
    """Whether a model's files are so small that bfloat16 would gain nothing, as a saved tiny's are."""
    return isinstance(place, Path) and 0 < sum(path.stat().st_size for path in place.glob("*.safetensors")) < SMALL


def _pretrained(name: str, place: Path | str, dtype: torch.dtype, speaks: bool) -> tuple[Any, PreTrainedTokenizerBase]:
    config = _causal(name, place)
    if isinstance(place, Path):
        check_weights(place)
    tokenizer = tokenizer_of(name, place)
    model, wrong = weights_of(AutoModelForCausalLM, name, place, config, dtype)
    if reads_ahead(model):
        raise not_causal(name, config)
    own = mute(model) if not speaks else set()
    wrong = [part for part in wrong if part not in own]
    if wrong:
        raise ModelError(
            f"model {name!r} wants weights for all its parts",
            f"missing or of another shape: {', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}",
            "the config.json that belongs to these weights, or a complete download"
            + (SCORES if all(part.startswith(OUTPUT) for part in wrong) else ""),
        )
    return model, tokenizer


def tokenizer_of(name: str, place: Path | str) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model. Raises ModelError."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds here
        raise broken(name, "a tokenizer", error, "copy tokenizer.json and tokenizer_config.json beside it") from error
    return tokenizer


def weights_of(family: Any, name: str, place: Path | str, config: Any, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """A model of a family of transformers, and its weights that are missing or of another shape. Raises ModelError."""
    try:
        with quiet():
            model, info = family.from_pretrained(
                place,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named in what is returned
            )
    except Exception as error:
        raise broken(name, "weights that load", error, "download or save the model again") from error
    return model, sorted({*map(str, info["missing_keys"]), *(str(entry[0]) for entry in info["mismatched_keys"])})


def place_of(name: str) -> Path | str:
    """The folder of a model, or its hub name where no folder is known."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError(f"model {name!r} wants a folder", "a file", f"its folder, {str(folder.parent)!r}")
    if (pulled := _pulled(name)) is not None:
        return pulled
    if name.startswith((".", "/", "~")) or not HUB_NAME.fullmatch(name):
        raise ModelError(f"model {name!r} wants a folder", "nothing there", "an existing folder, a hub name, or tiny")
    return name


def folder_of(name: str) -> Path | None:
    """The folder with the files of a model, also of one that the hub gave; None where it is not on this machine."""
    place = place_of(name)
    if isinstance(place, Path):
        return place
    held = try_to_load_from_cache(place, "config.json")
    return Path(held).parent if isinstance(held, str) else None


def _pulled(name: str) -> Path | None:
    from klimb.policy import pull

    return pull.resolve(name)


def config_of(name: str, place: Path | str) -> Any:
    """A model's configuration, of whatever kind it is. Raises ModelError."""
    if isinstance(place, Path) and not (place / "config.json").is_file():
        raise ModelError(
            f"model {name!r} wants a config.json", "none in the folder", "the folder that save_pretrained wrote"
        )
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:
        cure = "klimb pull smollm2-135m, a folder, or a machine that reaches the hub"
        if isinstance(place, Path):
            cure = "a config.json that this version of transformers knows; code from a model's author is never run"
        raise broken(name, "a configuration that can be read", error, cure) from error
    return config


def _causal(name: str, place: Path | str) -> Any:
    """The configuration of a causal language model. Raises ModelError where it is something else."""
    config = config_of(name, place)
    if getattr(config, "is_encoder_decoder", False) or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise not_causal(name, config)
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"model {name!r} wants weights that can be trained", "quantised ones", "the model before it was quantised"
        )
    return config


def check_weights(folder: Path) -> None:
    """Refuses a folder without safetensors; a pickle is never read."""
    if any(folder.glob("*.safetensors")):
        _check_shards(folder)
        return
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"model {str(folder)!r} wants safetensors weights",
            f"{pickles[0]}, a pickle, which may run code when it is read",
            "save it again with save_pretrained (safe serialization)",
        )
    raise ModelError(f"model {str(folder)!r} wants weights", "no *.safetensors in the folder", "a complete download")


def _check_shards(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise broken(str(folder), f"an {index.name} that can be read", error, "a complete download") from error
    gone = sorted(name for name in names if not (folder / str(name)).is_file())
    if gone:
        raise ModelError(f"model {str(folder)!r} wants all its shards", f"{gone[0]} is missing", "a complete download")


def _check_fit(name: str, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """The tokenizer and the weights belong together, something ends a completion, and every weight is a number."""
    check_parts(name, model, tokenizer)
    if tokenizer.eos_token_id is None and getattr(model.generation_config, "eos_token_id", None) is None:
        raise ModelError(f"model {name!r} wants an end-of-text token", "none", "eos_token in tokenizer_config.json")


def check_parts(name: str, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ModelError where the tokenizer has more tokens than the model, or a weight is no number."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"model {name!r} wants a tokenizer of at most {rows} tokens",
            f"one of {len(tokenizer)}",
            "the tokenizer that belongs to these weights",
        )
    for part, weight in model.named_parameters():
        if not bool(torch.isfinite(weight.sum())) and not bool(torch.isfinite(weight).all()):
            raise ModelError(f"model {name!r} wants finite weights", f"NaN or infinity in {part}", "download it again")


def broken(name: str, wants: str, error: Exception, cure: str) -> ModelError:
    """The error of a part that transformers cannot read, with the first line of what it said."""
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return ModelError(f"model {name!r} wants {wants}", f"{type(error).__name__}: {first}", cure)
