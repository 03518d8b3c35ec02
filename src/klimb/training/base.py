"""The settings of training: how long, in what parts, by which optimizer, saved how often."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Literal

from pydantic import Field

from klimb.config import Settings
from klimb.errors import KlimbError

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Level = Literal["token", "sequence", "geometric"]


class Optimizer(Settings):
    """What every optimizer has: a learning rate with a warm-up, decoupled weight decay, gradient clipping by norm."""

    type: str
    lr: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-5
    """The learning rate after the warm-up."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    """The decay of the first and the second moment."""
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Decoupled weight decay, as a share of the learning rate."""
    warmup: Annotated[int, Field(ge=0)] = 5
    """Optimizer steps over which the learning rate rises linearly to `lr`."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What the learning rate does after the warm-up: stays, or falls to where one step more would be zero."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """The largest norm of a model's whole gradient; a larger one is scaled down to it. A critic with a model of its own
    is held to it by itself."""


class AdamW(Optimizer):
    """AdamW with float32 master weights, a warm-up and gradient clipping by norm (Loshchilov and Hutter 2019)."""

    type: Literal["adamw"] = "adamw"


class ScheduleFree(Optimizer):
    """Schedule-Free AdamW (Defazio et al., 2405.15682): an average of the weights in place of a falling rate.

    The weights that sample and learn lie between the average and the newest ones; the average is evaluated and saved.
    """

    type: Literal["schedule_free"] = "schedule_free"
    betas: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], Fraction] = (0.9, 0.999)
    """How far the weights that learn lie from the newest ones (0) to their average (1); the second moment's decay."""
    schedule: Literal["constant"] = "constant"
    """The learning rate stays after the warm-up: that is the method."""

    def faults(self) -> list[KlimbError]:
        """The package that computes it must be there."""
        if importlib.util.find_spec("schedulefree") is not None:
            return []
        cure = "pip install 'klimb[schedulefree]', or optimizer.type=adamw"
        return [KlimbError("optimizer.type=schedule_free", "no `schedulefree` package", cure)]


AnyOptimizer = Annotated[AdamW | ScheduleFree, Field(discriminator="type")]


class NoCorrection(Settings):
    """Sampler log-probs are measured and shown, and not used in the loss."""

    type: Literal["none"] = "none"


class Truncate(Settings):
    """Each token's weight is multiplied by min(pi_old / mu, cap), mu being the sampler (truncated importance)."""

    type: Literal["truncate"] = "truncate"
    cap: Annotated[float, Field(ge=1.0)] = 2.0
    """The largest weight."""
    level: Level = "token"
    """What the ratio is of: one token, the whole answer (product), or the answer's geometric mean."""


class Mask(Settings):
    """Each token's weight is multiplied by pi_old / mu, and is zero where that lies outside [low, high]."""

    type: Literal["mask"] = "mask"
    low: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Tokens whose weight is below this do not learn."""
    high: Annotated[float, Field(ge=1.0)] = 2.0
    """Tokens whose weight is above this do not learn."""
    level: Level = "token"
    """What the ratio is of: one token, the whole answer (product), or the answer's geometric mean."""


Correction = Annotated[NoCorrection | Truncate | Mask, Field(discriminator="type")]


class Training(Settings):
    """How long to train and in what parts."""

    steps: Annotated[int, Field(ge=1)] = 100
    """How many batches are sampled and learned from."""
    micro_tokens: Annotated[int, Field(ge=16)] = 512
    """The most tokens (prompts once, completions) in one forward and backward pass. A choice of memory (0.8 MB a token
    for a 135M model); the result is the same but for rounding. What cannot be cut and is longer (one row, the answers
    of a pair) keeps no more: some of its layers run again in the backward pass."""
    correction: Correction = NoCorrection()
    """What is done about the difference between sampler and trainer log-probs."""
    patience: Annotated[int, Field(ge=1)] = 3
    """After this many batches without an update (of the policy, or of a critic with a model of its own), each for
    something not finite and none better in between (batches without a signal do not count), the run returns to its last
    good checkpoint and stops."""


class Checkpoints(Settings):
    """When the whole state is saved, and how many saves are kept."""

    every: Annotated[int, Field(ge=1)] = 20
    """Save after each so many steps, and at the end."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many checkpoints stay; the newest ones."""
