"""LoRA (2106.09685) by `peft`: small matrices beside the linear layers learn, the model's own weights stay.

W' = W + (alpha / rank) B A. B is zero at first: the policy begins as the model itself. The matrices are float32.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from klimb.errors import ModelError
from klimb.policy.base import LoRA
from klimb.policy.holding import holding

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.policy.heads import Head
    from klimb.policy.policy import Policy

NAME = "default"
BEFORE = "base_model.model."
"""What stands before each name in a file of `peft`."""
FILE = "adapter_model.safetensors"


class Adapter:
    """The matrices of a model. `started` holds the values that they began with; nothing changes those."""

    def __init__(self, model: Any, config: Any) -> None:
        self.config = config
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.started = {name: weight.detach().clone() for name, weight in self.parameters.items()}

    def named_parameters(self, before: str) -> Iterator[tuple[str, nn.Parameter]]:
        """The matrices by name, with a word before it."""
        yield from ((f"{before}.{name}", weight) for name, weight in self.parameters.items())

    def state(self) -> Mapping[str, Tensor]:
        """The matrices by name: what a checkpoint's `lora.safetensors` holds."""
        return {name: weight.detach() for name, weight in self.parameters.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts saved matrices back, in place. Raises KeyError where one is not there."""
        with torch.no_grad():
            for name, weight in self.parameters.items():
                weight.copy_(state[name])

    def at(self, matrices: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Inside, the model has these matrices in place of its own."""
        return holding(self.parameters, matrices)

    def save(self, folder: Path) -> None:
        """Writes a folder that `peft.PeftModel.from_pretrained` loads onto the model that the run began from."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {BEFORE + n.replace(f".{NAME}.", "."): w.contiguous().cpu() for n, w in self.state().items()}
        save_file(tensors, folder / FILE, metadata={"format": "pt"})
        self.config.save_pretrained(folder)


class Started:
    """The frozen policy that a run with an adapter began from: the same weights, with the adapter as it was then.

    Its matrices are its own: a reference that is refreshed moves, and no other policy that began there. With a fresh
    adapter it is the model itself, B being zero.
    """

    def __init__(self, policy: Policy, adapter: Adapter) -> None:
        self._policy, self._adapter = policy, adapter
        self._matrices = {name: weight.clone() for name, weight in adapter.started.items()}

    def __call__(self, batch: Batch) -> Outputs:
        """The log-prob and entropy of each completion token, without gradients."""
        with torch.no_grad(), self._adapter.at(self._matrices):
            return self._policy(batch)

    def distributions(self, batch: Batch, most: int) -> Iterator[Tensor]:
        """The logits over the temperature (n, v) of `most` completion tokens at a time; no gradients."""
        parts = self._policy.distributions(batch, most)
        while True:
            with self._adapter.at(self._matrices):
                part = next(parts, None)
            if part is None:
                return
            yield part

    def states(self, batch: Batch) -> Tensor:
        """The last hidden states where each completion token is predicted (t, d), float32 on the CPU; no gradients."""
        with self._adapter.at(self._matrices):
            return self._policy.states(batch)

    def head(self, tokens: Tensor, temperature: float) -> Head:
        """The output layer where these tokens are predicted: no adapter moves it."""
        return self._policy.head(tokens, temperature)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Its matrices, by the names that they have in the policy."""
        yield from ((f"lora.{name}", weight) for name, weight in self._matrices.items())


def attach(model: Any, settings: LoRA, seed: int) -> Adapter:
    """Puts the matrices into the model and freezes all else; a fresh A is drawn from `seed`.

    Raises ModelError where `peft` or a target is missing, or where the saved adapter is none of this model.
    """
    peft = _peft()
    config = _saved_config(peft, settings.path) if settings.path else _config(peft, settings)
    if settings.path is None:
        _check_targets(model, settings.targets)
    head = model.get_output_embeddings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            peft.inject_adapter_in_model(config, model, NAME)
        except ValueError as error:  # peft's word for targets that are not there
            found = str(error).splitlines()[0][:160]
            raise ModelError("model.lora wants layers of the model", found, "the adapter of this model") from error
    if model.get_output_embeddings() is not head:
        raise ModelError("model.lora wants linear layers inside the model", "its output layer", "another adapter")
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
        if "lora_" in name:
            weight.data = weight.data.float()
    if settings.path is not None:
        _load(model, settings.path)
    return Adapter(model, config)


def merged(module: Any) -> Any:
    """A linear layer as one weight: W + (alpha / rank) B A where it has an adapter (a copy), else the layer itself."""
    if not (hasattr(module, "lora_A") and hasattr(module, "base_layer")):
        return module
    base = module.base_layer
    weight = base.weight.detach()
    down, up = module.lora_A[NAME].weight.detach(), module.lora_B[NAME].weight.detach()
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    whole = torch.addmm(weight.float(), up, down, alpha=module.scaling[NAME])
    made.weight = nn.Parameter(whole.to(weight.dtype), requires_grad=False)
    made.bias = base.bias
    return made


def merged_state(model: Any) -> dict[str, Tensor]:
    """Every tensor of the model without its adapter, by its own name, the adapter added, in float32."""
    parts = {f"{name}.weight": module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    out: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        own = name.replace(".base_layer.", ".")
        if "lora_" in name:
            continue
        whole = tensor.float() if tensor.is_floating_point() else tensor
        if (module := parts.get(own)) is not None:
            down, up = module.lora_A[NAME].weight.detach(), module.lora_B[NAME].weight.detach()
            whole = torch.addmm(whole, up, down, alpha=module.scaling[NAME])
        out[own] = whole
    return out


def _peft() -> Any:
    if importlib.util.find_spec("peft") is None:
        raise ModelError("model.lora wants the package `peft`", "it is not installed", "pip install 'klimb[lora]'")
    return importlib.import_module("peft")


def _config(peft: Any, settings: LoRA) -> Any:
    return peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=list(settings.targets),
        task_type="CAUSAL_LM",
    )


def _saved_config(peft: Any, path: Path) -> Any:
    asked = f"model.lora.path={path} wants plain LoRA"
    if not (path / "adapter_config.json").is_file() or not (path / FILE).is_file():
        raise ModelError(asked, f"no {FILE} with its adapter_config.json", "the folder that was saved")
    config = peft.PeftConfig.from_pretrained(str(path))
    kinds = ("use_dora", "use_rslora", "modules_to_save", "alpha_pattern", "rank_pattern")
    odd = [name for name in kinds if getattr(config, name, None)]
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind != "LORA" or odd or config.bias != "none":
        raise ModelError(asked, ", ".join([kind, *odd, f"bias={config.bias}"]), "another adapter")
    config.inference_mode, config.lora_dropout = False, 0.0
    return config


def _check_targets(model: Any, targets: tuple[str, ...]) -> None:
    head = model.get_output_embeddings()
    linear = [n for n, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    known = sorted({name.rpartition(".")[2] for name in linear})
    if strange := sorted(set(targets) - set(known)):
        found = "no such linear layer inside the model"
        raise ModelError(f"model.lora.targets has {', '.join(strange)}", found, f"some of {', '.join(known)}")


def _load(model: Any, path: Path) -> None:
    held = load_file(path / FILE)
    wanted: dict[str, Tensor] = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    names = {name: BEFORE + name.replace(f".{NAME}.", ".") for name in wanted}
    gone = [name for name, saved in names.items() if saved not in held or held[saved].shape != wanted[name].shape]
    if gone or len(held) != len(wanted):
        found = f"{len(gone)} matrices missing or of another shape, {len(held)} in the file"
        raise ModelError(f"model.lora.path={path} wants the adapter of this model", found, "the model it was made for")
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(held[names[name]])
