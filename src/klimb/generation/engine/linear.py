"""Linear layers as the sampler runs them: weights laid out once for oneDNN where that pays, else used in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

HINT = 32
"""The number of rows that packed weights are laid out for; any number works."""


class Product(Protocol):
    """y = x W' + b for x [n, i], with what often follows it fused where the library can."""

    def __call__(self, x: Tensor) -> Tensor:
        """y [n, o]."""
        ...

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """y + other."""
        ...

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """y * other."""
        ...

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """activation(y)."""
        ...


class Activation:
    """An activation function, and the name under which oneDNN can fuse it ("" where it cannot)."""

    def __init__(self, function: nn.Module) -> None:
        self.function = function
        probe = torch.linspace(-3.0, 3.0, 64)
        known = {
            ("swish", ""): nnf.silu(probe),
            ("gelu", "tanh"): nnf.gelu(probe, approximate="tanh"),
            ("gelu", "none"): nnf.gelu(probe),
            ("relu", ""): nnf.relu(probe),
        }
        found = function(probe)
        names = [name for name, values in known.items() if torch.allclose(found, values, atol=1e-6, rtol=0.0)]
        self.name, self.algorithm = names[0] if names else ("", "")


class InPlace:
    """Reads the model's own weights, so that nothing is copied and a new value is seen at once."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.layers = tuple(layers)

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs of all layers, side by side."""
        parts = [nnf.linear(x, layer.weight, layer.bias) for layer in self.layers]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """y + other."""
        return self(x).add_(other)

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """y * other."""
        return self(x).mul_(other)

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """activation(y)."""
        y: Tensor = activation.function(self(x))
        return y


class Packed:
    """A copy of the weights in oneDNN's blocked layout: 1.3 to 2.7 times as fast at 8 to 60 rows."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        weight = (
            torch.cat([layer.weight.detach() for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
        )
        biases = [layer.bias for layer in layers]
        self.bias = None if any(bias is None for bias in biases) else torch.cat([b.detach() for b in biases])
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, HINT)

    def __call__(self, x: Tensor) -> Tensor:
        """y."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """y + other."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")
        return y

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """y * other."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "mul")
        return y

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """activation(y)."""
        if not activation.name:
            plain: Tensor = activation.function(self(x))
            return plain
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, activation.name, [], activation.algorithm
        )
        return y


def packs(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether packing is there and pays: on a CPU with oneDNN, which multiplies bfloat16 only where it has AVX-512."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))
