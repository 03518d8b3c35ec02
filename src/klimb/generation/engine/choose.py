"""Which engine a model gets: the fast one where a check on random tokens agrees with the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from klimb.errors import GenerationError
from klimb.generation.engine.base import Engine
from klimb.generation.engine.blocks import DoesNotFit
from klimb.generation.engine.fast import Fast
from klimb.generation.engine.plain import Plain

STEPS = 3


def choose(model: Any, wanted: str) -> Engine:
    """The engine that is wanted, or the best that fits the model. Raises GenerationError where `fast` does not."""
    if wanted == "plain":
        return Plain(model, "as the settings ask")
    reason = _unfit(model)
    if not reason:
        return Fast(model)
    if wanted == "fast":
        raise GenerationError("generator.engine=fast wants a model that it fits", reason, "generator.engine=auto")
    return Plain(model, f"the fast engine does not fit, {reason}")


def _unfit(model: Any) -> str:
    """Why the fast engine cannot run this model; empty where it can."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return _disagreement(model)
    except DoesNotFit as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 any architecture may fail here in its own way; then the plain engine is right
        return f"{type(error).__name__}: {error}"
    finally:
        model.train(training)


def _disagreement(model: Any) -> str:
    """How far the engine's next-token distributions are from the model's own, in words; empty where they agree.

    Measured is the total variation distance, half the sum of |p - q|: bounded, and blind to no likely token.
    """
    engine = Fast(model)
    allowed = 1e-3 if model.dtype == torch.float32 else 0.1
    gaps = [0.0]
    try:
        for logits, sequences in _probe(engine, model):
            for found, sequence in zip(logits, sequences, strict=True):
                truth = model(input_ids=torch.tensor([sequence], device=model.device), use_cache=False).logits[0, -1]
                gaps.append(float((found.float().softmax(-1) - truth.float().softmax(-1)).abs().sum()) / 2)
    finally:
        engine.stop()
        engine.release()
    worst = max(gaps)
    return "" if worst <= allowed else f"its distributions differ by {worst:.2g} from the model's own"


def _probe(engine: Engine, model: Any) -> Iterator[tuple[Tensor, list[list[int]]]]:
    """The engine's logits at each step of two prompts and three rows, of which one leaves, with each row's tokens."""
    generator = torch.Generator().manual_seed(0)
    width = model.get_input_embeddings().weight.shape[0]
    prompts = [tuple(torch.randint(width, (size,), generator=generator).tolist()) for size in (5, 9)]
    owners = [0, 0, 1]
    sequences = [list(prompts[owner]) for owner in owners]
    yield engine.start(prompts, owners, STEPS), sequences
    for step in range(STEPS):
        if step == 1:
            engine.keep([2, 1])
            sequences = [sequences[2], sequences[1]]
        tokens = torch.randint(width, (len(sequences),), generator=generator)
        for sequence, token in zip(sequences, tokens.tolist(), strict=True):
            sequence.append(token)
        yield engine.step(tokens.to(model.device)), sequences
