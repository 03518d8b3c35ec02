"""The settings of a policy: which model, in which precision, on which device. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from klimb.config import Settings


class TinySizes(Settings):
    """The sizes of the built-in `tiny` model: a random-weight Llama over bytes, for tests and first steps."""

    hidden: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 64
    """The width of the residual stream."""
    layers: Annotated[int, Field(ge=1, le=32)] = 2
    """How many layers."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """How many query heads; divides `hidden`."""
    kv_heads: Annotated[int, Field(ge=1, le=64)] = 2
    """How many key/value heads; divides `heads`."""
    context: Annotated[int, Field(ge=16, le=8192)] = 512
    """The longest sequence in tokens (here: bytes), prompt and completion together."""


class PolicySettings(Settings):
    """Which model is trained, and how it is computed."""

    name: Annotated[str, Field(min_length=1)] = "tiny"
    """A folder, a hub name such as HuggingFaceTB/SmolLM2-135M-Instruct, a pulled name such as smollm2-135m, or tiny."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """The arithmetic of the forward and backward pass; auto = bfloat16 where the hardware has it, tiny in float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model lives; auto = cuda where there is one."""
    checkpointing: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations: less memory, 1.3x the time."""
    path: Literal["auto", "packed", "plain"] = "auto"
    """packed = prompts once and no padding; plain = one padded forward; auto = packed where a check at load agrees."""
    system: str | None = None
    """The system message put before chats that have none; unset = whatever the model's chat template does."""
    tiny: TinySizes = TinySizes()
    """The sizes of the built-in model; only read where `name` is tiny."""
