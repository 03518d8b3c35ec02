"""The policy: a causal language model that gives the log-prob and entropy of every completion token."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from klimb.batch import Batch, Outputs
from klimb.policy.adapter import Adapter, attach, merged_state
from klimb.policy.base import PolicySettings
from klimb.policy.choosing import choose
from klimb.policy.critic import Critic
from klimb.policy.heads import Head
from klimb.policy.output import output_layer, own_output
from klimb.policy.paths import Path as ComputePath
from klimb.policy.paths import Read, distributions
from klimb.policy.quiet import quiet
from klimb.policy.texts import Texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Policy(Texts):
    """A model, its tokenizer and the way it is computed. Dropout is off: now and old log-probs must agree."""

    speaks: ClassVar[bool] = True
    """Whether log-probs are read, and not values alone."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        path: ComputePath,
        notes: Sequence[str] = (),
        system: str | None = None,
        date: date | None = None,
    ) -> None:
        super().__init__(tokenizer, model.config, model.generation_config, system, date)
        self.model, self.path, self.notes = model, path, tuple(notes)
        self.critic: Critic | None = None
        self.adapter: Adapter | None = None

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        settings: PolicySettings,
        seed: int = 0,
        like: Policy | None = None,
    ) -> Policy:
        """Chooses how the model is computed, by a check on random tokens, and adds the adapter that is asked for."""
        model.eval()
        known = like.path if like is not None and like.speaks == cls.speaks else None
        path, notes = choose(model, settings.path, settings.checkpointing, cls.speaks, known)
        policy = cls(model, tokenizer, path, notes, settings.system, settings.date)
        if settings.lora is not None:
            policy.adapter = attach(model, settings.lora, seed)
            policy.notes += (f"LoRA with {sum(p.numel() for p in policy.adapter.parameters.values()):,} weights",)
            model.eval()
        return policy

    def __call__(self, batch: Batch, read: Read | None = None) -> Outputs:
        """The log-prob (differentiable) and entropy (detached) of each completion token at `batch.temperature`.

        With a critic also the value (differentiable) before each token, from the same hidden states; `read` is given
        them, too, on the policy's device.
        """
        home, values, critic = batch.tokens.device, list[Tensor](), self.critic

        def seen(states: Tensor) -> None:
            if critic is not None:
                values.append(critic(states))
            if read is not None:
                read(states)

        logp, entropy = self.path.token_logps(batch.to(self.device), seen if critic or read else None)
        return Outputs(logp.to(home), entropy.to(home), values[0].to(home) if values else None)

    def add_critic(self, moves_trunk: bool = True) -> Critic:
        """Gives the policy a value head whose first values are all 0; sampling, saving and versions know nothing of it.

        Its weights are part of `named_parameters`. Where not `moves_trunk`, its gradient ends at the head.
        """
        width = output_layer(self.model).weight.shape[-1]
        self.critic = Critic(width, moves_trunk).to(self.device)
        return self.critic

    def distributions(self, batch: Batch, most: int) -> Iterator[Tensor]:
        """The logits over `batch.temperature` (n, v) that predict `most` completion tokens at a time; no gradients."""
        return distributions(self.path, batch.to(self.device), most)

    def head(self, tokens: Tensor, temperature: float) -> Head:
        """The output layer where these tokens are predicted. Only where `path.rule` is known."""
        layer: Any = self.model.get_output_embeddings()
        assert self.path.rule is not None
        return Head(layer.weight, layer.bias, tokens, self.path.rule, temperature)

    def states(self, batch: Batch) -> Tensor:
        """The last hidden states where each completion token is predicted (t, d), float32 on the CPU; no gradients."""
        with torch.no_grad():
            return self.path.states(batch.to(self.device)).float().cpu()

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """The arithmetic of the forward and backward pass."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def weights(self) -> int:
        """How many numbers the model has, tied ones once."""
        return sum(weight.numel() for weight in self.model.parameters())

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights, each once (tied ones too), a critic's last."""
        yield from (weight for _, weight in self.named_parameters())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights with their names, each once; a critic's last, as `critic.weight` and `critic.bias`.

        With an adapter only its matrices, as `lora.<name>`: nothing else of the model learns.
        """
        if self.adapter is None:
            yield from self.model.named_parameters()
        else:
            yield from self.adapter.named_parameters("lora")
        if self.critic is not None:
            yield from self.critic.named_parameters("critic")

    def version(self, dtype: torch.dtype | None = None) -> str:
        """A hash of the weights as they are computed with, or would be in `dtype`: equal weights, equal version.

        An output layer of its own counts for nothing: what is left out of a model makes no other model of it.
        """
        own = own_output(self.model)
        return self._hash({name for name, _ in self.model.named_parameters()} - own, dtype)

    def output_version(self, dtype: torch.dtype | None = None) -> str:
        """The same of the output layer's own weights; empty where it has none, or is left out."""
        own = own_output(self.model)
        return self._hash(own, dtype) if own else ""

    def save(self, folder: Path | str, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Writes a folder that from_pretrained loads: safetensors, configurations, tokenizer.

        `state_dict` (by the names of `named_parameters`) replaces the weights, for instance by float32 masters. An
        adapter is added to the weights, and stands alone in the folder `adapter`.
        """
        folder, weights = Path(folder), self.saved(state_dict or {})
        if self.adapter is not None:
            self.adapter.save(folder / "adapter")
        dtypes = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
        with quiet():
            self.model.generation_config = _savable(self.model.generation_config, folder)
            self.model.save_pretrained(folder, state_dict=weights, max_shard_size="1000GB")
        self.tokenizer.save_pretrained(folder)
        _edit(folder / "tokenizer_config.json", is_local=None, local_files_only=None)  # of no use elsewhere
        if len(dtypes) == 1:
            _edit(folder / "config.json", dtype=str(dtypes.pop()).removeprefix("torch."))

    def saved(self, changed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the folder by name, some of them `changed`; a tied output layer's are the embedding's."""
        weights = {**(self.model.state_dict() if self.adapter is None else merged_state(self.model)), **changed}
        if changed and (head := self._tied()) is not None:
            weights[head] = weights[self._weight_of(self.model.get_input_embeddings())]
        return weights

    def describe(self) -> str:
        """Which way of computing was chosen and why, in words."""
        what = f"{type(self.model).__name__}, {self.weights / 1e6:.1f} M weights, {self.dtype}".replace("torch.", "")
        return "; ".join([f"{what} on {self.device}", self.path.name, *self.notes])

    def _hash(self, names: Collection[str], dtype: torch.dtype | None) -> str:
        digest = hashlib.sha256()
        for name, weight in self.model.named_parameters():
            if name in names:
                digest.update(name.encode())
                held = weight.detach().to("cpu", dtype or weight.dtype).contiguous()
                digest.update(held.view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def _tied(self) -> str | None:
        """The name of the output layer's weight where it is the input embedding itself."""
        head, embedding = self.model.get_output_embeddings(), self.model.get_input_embeddings()
        return None if head is None or head.weight is not embedding.weight else self._weight_of(head)

    def _weight_of(self, wanted: nn.Module) -> str:
        return next(f"{name}.weight" for name, module in self.model.named_modules() if module is wanted)


def _savable(config: Any, folder: Path) -> Any:
    """A model's generation settings as they may be saved: its own where transformers writes them.

    It refuses some that it reads, such as a temperature without do_sample. Then sampling is said to be meant, and
    where that is not enough, only the ids of special tokens are kept.
    """
    if config is None:
        return None
    sampling = copy.deepcopy(config)
    sampling.do_sample = True
    for one in (config, sampling):
        try:
            one.save_pretrained(folder)
        except ValueError:
            continue
        return one
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    ids = {name: value for name in names if (value := getattr(config, name, None)) is not None and value != -1}
    return cast(Any, GenerationConfig)(**ids)


def _edit(path: Path, **changes: str | None) -> None:
    """Changes some keys of a JSON file; None takes one out."""
    content = {**json.loads(path.read_text("utf-8")), **changes}
    kept = {key: value for key, value in content.items() if key not in changes or value is not None}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
