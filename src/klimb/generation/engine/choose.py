"""Which engine a model gets: the fast one where a check on random tokens agrees with the model itself."""

from __future__ import annotations

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
    try:
        found, sequences = _probe(engine, model)
    finally:
        engine.stop()
        engine.release()
    truths = [model(input_ids=tokens[None].to(model.device), use_cache=False).logits[0] for tokens in sequences]
    gaps = [
        float((logits.float().softmax(-1) - truths[row][length - 1].float().softmax(-1)).abs().sum()) / 2
        for row, length, logits in found
    ]
    worst = max(gaps)
    return "" if worst <= allowed else f"its distributions differ by {worst:.2g} from the model's own"


def _probe(engine: Engine, model: Any) -> tuple[list[tuple[int, int, Tensor]], list[Tensor]]:
    """Two prompts and three rows, of which one leaves: (row, length so far, logits) at each step, and the sequences."""
    generator = torch.Generator().manual_seed(0)
    width = model.get_input_embeddings().weight.shape[0]
    sequences = [torch.randint(width, (size,), generator=generator) for size in (5 + STEPS, 9 + STEPS)]
    sequences.insert(1, torch.cat([sequences[0][:5], torch.randint(width, (STEPS,), generator=generator)]))
    starts, live = [5, 5, 9], [0, 1, 2]
    prompts = [tuple(sequences[row][: starts[row]].tolist()) for row in (0, 2)]
    logits = engine.start(prompts, [0, 0, 1], STEPS)
    found = [(row, starts[row], logits[place]) for place, row in enumerate(live)]
    for step in range(STEPS):
        if step == 1:
            engine.keep([2, 1])
            live = [2, 1]
        tokens = torch.stack([sequences[row][starts[row] + step] for row in live])
        logits = engine.step(tokens.to(model.device))
        found += [(row, starts[row] + step + 1, logits[place]) for place, row in enumerate(live)]
    return found, sequences
