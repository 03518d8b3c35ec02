"""Reads a Llama-like model's modules into blocks that run one after another over flat tokens, without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from klimb.generation.engine.linear import Activation, InPlace, Packed, Product
from klimb.generation.engine.norm import Norm, norm_of
from klimb.policy.adapter import merged

LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
SANDWICH = LAYER | {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
FIXED_ROPES = {"default", "linear", "llama3", "yarn"}

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class DoesNotFit(Exception):
    """The model is not of the kind that is read here; the message says why."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding of chosen positions: `cos`, and `sin` with the sign of the rotated half in it, [n, 1, d]."""

    cos: Tensor
    sin: Tensor

    def at(self, positions: Tensor) -> Rope:
        """The tables of these positions."""
        return Rope(self.cos.index_select(0, positions), self.sin.index_select(0, positions))

    def __call__(self, x: Tensor) -> Tensor:
        """x [n, h, d], rotated."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin)


@dataclass(frozen=True, slots=True)
class Shape:
    """Attention's numbers."""

    heads: int
    kv_heads: int
    dim: int
    scale: float
    softcap: float | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """One decoder layer."""

    index: int
    shape: Shape
    kind: str
    before: Norm
    qkv: Product
    q_norm: Norm | None
    k_norm: Norm | None
    o: Product
    after: Norm | None
    mlp_before: Norm
    gate: Product
    up: Product
    activation: Activation
    down: Product
    mlp_after: Norm | None
    residual: float

    def __call__(self, x: Tensor, rope: Rope, attend: Attend) -> Tensor:
        """The residual stream x [n, width] after this layer."""
        seen = attend(self.index, *self._project(self.before(x), rope))
        x = self._onto(x, self.o, seen, self.after)
        h = self.mlp_before(x)
        h = self.up.times(h, self.gate.activated(h, self.activation))
        return self._onto(x, self.down, h, self.mlp_after)

    def _project(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        shape = self.shape
        both = shape.heads + shape.kv_heads
        parts = self.qkv(x).view(x.shape[0], both + shape.kv_heads, shape.dim)
        if self.q_norm is None or self.k_norm is None:
            qk = rope(parts[:, :both])
            return qk[:, : shape.heads], qk[:, shape.heads :], parts[:, both:]
        q, k = self.q_norm(parts[:, : shape.heads]), self.k_norm(parts[:, shape.heads : both])
        return rope(q), rope(k), parts[:, both:]

    def _onto(self, x: Tensor, product: Product, y: Tensor, norm: Norm | None) -> Tensor:
        if norm is None and self.residual == 1.0:
            return product.add(y, x)
        out = product(y) if norm is None else norm(product(y))
        return x + out * self.residual if self.residual != 1.0 else x + out


@dataclass(frozen=True, slots=True)
class Program:
    """A whole model: `embed`, the blocks, the last norm and the output layer."""

    blocks: tuple[Block, ...]
    embed: Callable[[Tensor], Tensor]
    norm: Norm
    head: Product

    def hidden(self, tokens: Tensor, ropes: dict[str, Rope], attend: Attend) -> Tensor:
        """The residual stream [n, width] of flat tokens [n] at the places that `ropes` (by kind) stand for."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, ropes[block.kind], attend)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """The output layer's values [n, v], before the model's scaling and cap."""
        return self.head(self.norm(x))


def read(model: Any, packed: bool) -> Program:
    """The program of a model. Raises DoesNotFit where it is not Llama-like."""
    trunk, config = model.base_model, model.config
    _only(trunk, {"embed_tokens", "layers", "norm", "rotary_emb"}, {"embed_tokens", "layers", "norm", "rotary_emb"})
    head = model.get_output_embeddings()
    make = _maker(packed)
    scale = float(getattr(config, "embedding_multiplier", None) or 1.0)
    embed = trunk.embed_tokens if scale == 1.0 else lambda tokens: trunk.embed_tokens(tokens) * scale
    if type(head) is not nn.Linear:
        raise DoesNotFit(f"its output layer is a {type(head).__name__}")
    blocks = tuple(_block(index, layer, config, make) for index, layer in enumerate(trunk.layers))
    return Program(blocks, embed, norm_of(trunk.norm), make([head]))


def rope_tables(model: Any, kinds: set[str], length: int, dtype: torch.dtype) -> dict[str, Rope]:
    """The rotary tables [length, 1, d] for each kind of layer. Raises DoesNotFit for ropes that change with length."""
    rotary, parameters = model.base_model.rotary_emb, getattr(model.config, "rope_parameters", None) or {}
    positions = torch.arange(length, device=model.device)[None]
    like = torch.empty(1, device=model.device, dtype=dtype)
    tables = {}
    for kind in kinds:
        single = "rope_type" in parameters
        name = (parameters if single else parameters.get(kind) or {}).get("rope_type", "?")
        if name not in FIXED_ROPES:
            raise DoesNotFit(f"its rotary embedding is of type {name!r}")
        cos, sin = rotary(like, positions) if single else rotary(like, positions, kind)
        half = sin.shape[-1] // 2
        signed = torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)
        tables[kind] = Rope(cos[0, :, None], signed[:, None])
    return tables


def _block(index: int, layer: Any, config: Any, make: Callable[[Sequence[nn.Linear]], Product]) -> Block:
    names = {name for name, _ in layer.named_children()}
    sandwich = names == SANDWICH
    if not sandwich:
        _only(layer, LAYER, LAYER)
    attention, mlp = layer.self_attn, layer.mlp
    _only(attention, ATTENTION, ATTENTION | {"q_norm", "k_norm"})
    _only(mlp, MLP - {"act_fn"}, MLP)
    if not getattr(attention, "use_rope", True):
        raise DoesNotFit("some of its layers have no rotary embedding")
    dim = attention.head_dim
    q, k, v, o = _linear(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    gate, up, down = _linear(mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    normed = [norm_of(norm) for norm in (getattr(attention, n, None) for n in ("q_norm", "k_norm")) if norm is not None]
    types = getattr(config, "layer_types", None)
    return Block(
        index=index,
        shape=Shape(
            q.out_features // dim,
            k.out_features // dim,
            dim,
            float(attention.scaling),
            getattr(attention, "attn_logit_softcapping", None),
            getattr(attention, "sliding_window", None) or (None if types else getattr(config, "sliding_window", None)),
        ),
        kind=types[index] if types else "full_attention",
        before=norm_of(layer.input_layernorm),
        qkv=make([q, k, v]),
        q_norm=normed[0] if normed else None,
        k_norm=normed[1] if normed else None,
        o=make([o]),
        after=norm_of(layer.post_attention_layernorm) if sandwich else None,
        mlp_before=norm_of(layer.pre_feedforward_layernorm if sandwich else layer.post_attention_layernorm),
        gate=make([gate]),
        up=make([up]),
        activation=Activation(mlp.act_fn),
        down=make([down]),
        mlp_after=norm_of(layer.post_feedforward_layernorm) if sandwich else None,
        residual=float(getattr(config, "residual_multiplier", None) or 1.0),
    )


def _maker(packed: bool) -> Callable[[Sequence[nn.Linear]], Product]:
    return Packed if packed else InPlace


def _only(module: nn.Module, needed: set[str], known: set[str]) -> None:
    names = {name for name, _ in module.named_children()}
    if not needed <= names <= known:
        strange = sorted((needed - names) | (names - known))
        raise DoesNotFit(f"{type(module).__name__} differs from a Llama-like model in {', '.join(strange)}")


def _linear(*modules: nn.Module) -> list[nn.Linear]:
    """The layers, each with its adapter added to its weight where it has one."""
    found = [merged(module) for module in modules]
    for module in found:
        if type(module) is not nn.Linear:
            raise DoesNotFit(f"a linear layer is a {type(module).__name__}")
    return found
