"""The settings of a policy: which model, in which precision, on which device. No torch here."""

from __future__ import annotations

from datetime import date as Day
from pathlib import Path
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


class LoRA(Settings):
    """Low-rank matrices beside the linear layers learn in place of the model's weights (2106.09685); needs `peft`."""

    rank: Annotated[int, Field(ge=1)] = 16
    """How many columns B has in W + (alpha / rank) B A."""
    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    """The scale of what is added; alpha / rank multiplies B A."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """The names of the linear layers that get an adapter; never the output layer."""
    dropout: Annotated[float, Field(ge=0.0, le=0.0)] = 0.0
    """Only 0: with dropout, the log-probs now and those of the policy that sampled would not agree."""
    path: Path | None = None
    """A folder with a saved adapter to begin from: rank, alpha and targets are its own; it is the reference, too."""


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
    date: Day | None = None
    """What a chat template is told that writes the date; unset = the day on which the run begins, as it keeps it."""
    lora: LoRA | None = None
    """Train an adapter in place of the weights; unset = every weight learns."""
    tiny: TinySizes = TinySizes()
    """The sizes of the built-in model; only read where `name` is tiny."""

    def at(self, place: Path | str) -> PolicySettings:
        """The settings of what a run saved there: whole weights, with the adapter in them.

        A path that is a folder is that folder, also where it is called as the built-in model is.
        """
        name = str(place.expanduser() if isinstance(place, Path) else place)
        beside = name == "tiny" and isinstance(place, Path) and place.is_dir()
        return self.model_copy(update={"name": f"./{name}" if beside else name, "lora": None})
