"""The two ways to compute a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from klimb.batch import Batch
from klimb.policy import attention
from klimb.policy.hardware import release_freed_pages
from klimb.policy.heads import KEEP_BYTES, HeadRule, logits, token_logps
from klimb.policy.packing import Packing
from klimb.policy.recomputing import counted_as
from klimb.policy.sparing import sparing

Read = Callable[[Tensor], None]
"""Is given the last hidden states at the places that predict each completion token: (t, d), in compute precision."""


class Path(Protocol):
    """A way to compute the log-probs and entropies of a batch."""

    @property
    def model(self) -> Any:
        """The model that is computed."""
        ...

    @property
    def rule(self) -> HeadRule | None:
        """What it does after the output layer; None where only its own logits are trusted."""
        ...

    @property
    def name(self) -> str:
        """The way, in words."""
        ...

    def token_logps(self, batch: Batch, read: Read | None = None) -> tuple[Tensor, Tensor]:
        """Log-prob (differentiable) and entropy (detached) of each completion token, float32."""
        ...

    def states(self, batch: Batch) -> Tensor:
        """What the output layer sees where each completion token is predicted (t, d); its logits where no rule fits."""
        ...


@dataclass(frozen=True)
class Plain:
    """One padded forward pass for all rows; `rule` is None where only the model's own logits are trusted."""

    model: Any
    rule: HeadRule | None
    keep_bytes: int = KEEP_BYTES
    name: str = "plain: one padded forward pass"

    def token_logps(self, batch: Batch, read: Read | None = None) -> tuple[Tensor, Tensor]:
        if self.rule is None:
            return self._by_logits(batch, read)
        states = self.states(batch)
        if read is not None:
            read(states)
        return _head(self.model, self.rule, states, batch, self.keep_bytes)

    def _by_logits(self, batch: Batch, read: Read | None) -> tuple[Tensor, Tensor]:
        """Where only the model's own logits are trusted."""
        more = {} if read is None else {"output_hidden_states": True}
        out, places = _said(self.model, batch, **more)
        if read is not None:
            read(out.hidden_states[-1].flatten(0, 1)[places])
        logps = (out.logits.flatten(0, 1)[places].float() / batch.temperature).log_softmax(-1)
        plain = logps.detach()
        entropy = -(plain.exp() * plain).nan_to_num(0.0).sum(-1)
        return logps.gather(-1, batch.tokens[:, None])[:, 0], entropy

    def states(self, batch: Batch) -> Tensor:
        out, places = _said(self.model if self.rule is None else self.model.base_model, batch)
        whole: Tensor = out.logits if self.rule is None else out.last_hidden_state
        return whole.flatten(0, 1)[places]


@dataclass(frozen=True)
class Packed:
    """One flat sequence: prompts once, no padding, only the places that predict go through the output layer."""

    model: Any
    rule: HeadRule
    fallback: Plain
    keep_bytes: int = KEEP_BYTES
    recomputes: bool = False
    """Whether each layer is run again in the backward pass: then there is nothing else to spare."""
    name: str = "packed: prompts once, no padding, output layer in chunks"

    def token_logps(self, batch: Batch, read: Read | None = None) -> tuple[Tensor, Tensor]:
        states = self.states(batch)
        if read is not None:
            read(states)
        return _head(self.model, self.rule, states, batch, self.keep_bytes)

    def states(self, batch: Batch) -> Tensor:
        packing = Packing.of(batch)
        if self.recomputes:
            release_freed_pages()  # what the last part's backward pass left open; memory counts more than time here
        try:
            with nullcontext() if self.recomputes else sparing():
                return self.hidden(packing)[packing.source]
        except attention.DoesNotFit:
            return self.fallback.states(batch)

    def hidden(self, packing: Packing) -> Tensor:
        """The last hidden states of a packed sequence: (n, d)."""
        ready_made = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=packing.tokens.device)
        out = self.model.base_model(
            input_ids=packing.tokens[None],
            position_ids=packing.positions[None],
            attention_mask=ready_made,  # four axes: transformers takes it for finished and builds no mask of its own
            use_cache=False,
            packing=packing,
        )
        hidden: Tensor = out.last_hidden_state[0]
        return hidden


def _head(model: Any, rule: HeadRule, hidden: Tensor, batch: Batch, keep: int) -> tuple[Tensor, Tensor]:
    layer: Any = model.get_output_embeddings()
    return token_logps(hidden, layer.weight, layer.bias, batch.tokens, rule, batch.temperature, keep)


@torch.no_grad()  # as a decorator it holds only while the generator runs, not between its parts
def distributions(path: Path, batch: Batch, most: int) -> Iterator[Tensor]:
    """The logits over the temperature (n, v), float32, of `most` completion tokens at a time; no gradients."""
    layer: Any = path.model.get_output_embeddings()
    for states, tokens in zip(path.states(batch).split(most), batch.tokens.split(most), strict=True):
        if path.rule is None:
            yield states.float() / batch.temperature
        else:
            yield logits(states, layer.weight, layer.bias, tokens, path.rule, batch.temperature)


def _said(body: Any, batch: Batch, **more: bool) -> tuple[Any, Tensor]:
    """What a model says of the padded rows, and for each token the flat place that predicts it (t)."""
    tokens, mask, places = _padded(batch)
    with counted_as(batch.size):
        return body(input_ids=tokens, attention_mask=mask, use_cache=False, **more), places


def _padded(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded token ids and mask (r, n), and for each token the flat place that predicts it (t)."""
    lengths = batch.lengths
    sizes = torch.tensor([prompt.numel() for prompt in batch.prompts], device=lengths.device)[batch.group]
    width = int((sizes + lengths).max()) if batch.rows else 0
    tokens = torch.zeros(batch.rows, width, dtype=torch.int64, device=lengths.device)
    mask = torch.zeros_like(tokens)
    for row, part in enumerate(torch.split(batch.tokens, lengths.tolist())):
        prompt = batch.prompts[int(batch.group[row])]
        whole = torch.cat([prompt, part])
        tokens[row, : whole.numel()], mask[row, : whole.numel()] = whole, 1
    starts = torch.cumsum(lengths, 0) - lengths
    within = torch.arange(batch.tokens.numel(), device=lengths.device) - starts[batch.row]
    return tokens, mask, batch.row * width + sizes[batch.row] + within - 1
