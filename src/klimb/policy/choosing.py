"""The check at load that chooses between the ways to compute a batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from klimb.batch import Batch
from klimb.errors import ModelError
from klimb.policy import attention
from klimb.policy.embedding import swap_embeddings
from klimb.policy.heads import KEEP_BYTES, HeadRule
from klimb.policy.packing import Packing
from klimb.policy.paths import Packed, Path, Plain
from klimb.policy.recomputing import recompute_layers
from klimb.policy.swaps import swap

Wanted = Literal["auto", "packed", "plain"]
NAMES = ("_name_or_path", "_attn_implementation", "dtype", "torch_dtype", "transformers_version")
"""What of a model's configuration says nothing of how it is built."""
Truth = tuple[Tensor, ...]
"""Log-prob and entropy of each completion token; or the hidden state that predicts it, alone."""


def choose(
    model: Any, wanted: Wanted, checkpointing: bool, speaks: bool = True, like: Path | None = None
) -> tuple[Path, list[str]]:
    """The path for a model, with notes in words. Raises ModelError where `packed` is asked for and does not fit.

    Paths are compared by what is read: log-probs, or the hidden states of a model that need not speak. A model that is
    built as that of the path `like` is computed as that one, which is not checked again.
    """
    keep = KEEP_BYTES >> 3 if checkpointing else KEEP_BYTES
    notes: list[str] = []
    if like is not None and _alike(model, like.model):
        path = _as(like, model, keep, checkpointing)
    else:
        path = _checked(model, wanted, keep, checkpointing, speaks, notes)
    if isinstance(path, Packed):
        notes += swap(model)
    notes += swap_embeddings(model)
    if checkpointing:
        notes.append(recompute_layers(model))
    return path, notes


def _alike(model: Any, other: Any) -> bool:
    """Whether two models are one architecture of the same sizes, in the same arithmetic on the same device."""
    configs = [{k: v for k, v in one.config.to_dict().items() if k not in NAMES} for one in (model, other)]
    return configs[0] == configs[1] and (model.dtype, model.device) == (other.dtype, other.device)


def _as(known: Path, model: Any, keep: int, checkpointing: bool) -> Path:
    """The path of a model whose twin has the `known` one."""
    rule = None if known.rule is None else HeadRule.of(model.config)
    plain = Plain(model, rule, keep)
    if not isinstance(known, Packed) or rule is None:
        return plain
    model.set_attn_implementation(attention.NAME)
    return Packed(model, rule, plain, keep, checkpointing)


def _checked(model: Any, wanted: Wanted, keep: int, checkpointing: bool, speaks: bool, notes: list[str]) -> Path:
    """The path that a check on random tokens finds right; what it found is added to the notes."""
    probe = _probe(model)
    rule: HeadRule | None = HeadRule.of(model.config)
    with torch.no_grad():
        truth = _one_by_one(model, probe, speaks)
        reason = _disagreement(Plain(model, rule, keep), probe, truth, model.dtype)
        if reason:
            what = "chunked output layer" if speaks else "base model"
            notes.append(f"the model's own logits are used, as the {what} does not fit: {reason}")
            rule = None
        plain = Plain(model, rule, keep)
        if wanted == "plain":
            return plain
        reason = reason or _try_packed(model, rule, plain, probe, truth)
        if not reason and rule is not None:
            if isinstance(window := getattr(model.config, "sliding_window", None), int):
                notes.append(f"plain for sequences of more than {window} tokens, its sliding window")
            return Packed(model, rule, plain, keep, checkpointing)
    if wanted == "packed":
        raise ModelError("model.path=packed wants a model that it fits", reason, "model.path=auto")
    notes.append(f"packed does not fit: {reason}")
    return plain


def _try_packed(model: Any, rule: HeadRule | None, plain: Plain, probe: Batch, truth: Truth) -> str:
    """Why the packed path does not fit; empty where it does, and then the model's attention is set to it."""
    before = model.config._attn_implementation
    if rule is None:
        return "the output layer does not fit"
    try:
        model.set_attn_implementation(attention.NAME)
        Packed(model, rule, plain).hidden(Packing.of(probe))
        reason = _disagreement(Packed(model, rule, plain), probe, truth, model.dtype)
    except Exception as error:  # noqa: BLE001 any architecture may fail here in its own way; then the plain path is right
        reason = f"{type(error).__name__}: {error}"
    if reason:
        model.set_attn_implementation(before)
    return reason


def _probe(model: Any) -> Batch:
    """A few random tokens: two prompts, three completions, of different lengths."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    lengths, groups, sizes = (7, 4, 6), (0, 0, 1), (5, 9)
    tokens = torch.randint(vocabulary, (sum(lengths),), generator=generator)
    rows = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    return Batch(
        tokens=tokens,
        row=rows,
        group=torch.tensor(groups),
        prompts=tuple(torch.randint(vocabulary, (size,), generator=generator) for size in sizes),
        learn=torch.ones_like(tokens, dtype=torch.bool),
        reward=torch.zeros(3),
        scored=torch.ones(3, dtype=torch.bool),
        truncated=torch.zeros(3, dtype=torch.bool),
    ).to(model.device)


def _one_by_one(model: Any, batch: Batch, speaks: bool) -> Truth:
    """What the model itself says of each sequence alone."""
    parts = [_said(Plain(model, None), batch.take(torch.tensor([row])), speaks) for row in range(batch.rows)]
    return tuple(torch.cat(every) for every in zip(*parts, strict=True))


def _said(path: Path, batch: Batch, speaks: bool) -> Truth:
    """Log-probs and entropies; else the last hidden states, beside a model's own logits where no rule fits."""
    if speaks:
        return path.token_logps(batch)
    if path.rule is not None:
        return (path.states(batch).float(),)
    found: list[Tensor] = []
    path.token_logps(batch, found.append)
    return (found[0].float(),)


def _disagreement(path: Path, batch: Batch, truth: Truth, dtype: torch.dtype) -> str:
    """How a path differs from the truth, in words; empty where it agrees as well as the arithmetic allows."""
    exact, speaks = dtype == torch.float32, len(truth) > 1
    try:
        found = _said(path, batch, speaks)
    except Exception as error:  # noqa: BLE001 any architecture may fail here in its own way; then another path is right
        return f"{type(error).__name__}: {error}"
    if not speaks:
        far = float(((found[0] - truth[0]).norm(dim=-1) / truth[0].norm(dim=-1)).mean())
        return (
            "" if far <= (1e-3 if exact else 0.1) else f"hidden states differ by {far:.2g} of their norm from its own"
        )
    gap = max(float((a - b).abs().mean()) for a, b in zip(found, truth, strict=True))
    return (
        "" if gap <= (1e-3 if exact else 0.25) else f"log-probs differ by {gap:.2g} nats a token from the model's own"
    )
