"""Writes divergence.json into runs: KL(last || initial) in nats a token, on the last held-out answers.

Usage: python bench/divergence.py RUN ...
The last policy drew those answers at temperature 1, so the mean of log pi_last - log pi_initial over their tokens (k1)
is an unbiased estimate of the divergence a token, each token counted once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from klimb import rollouts
from klimb.batch import Batch
from klimb.config import resolve
from klimb.policy.loading import load
from klimb.recipe import Recipe
from klimb.training.reference import measure


def main(run: Path) -> None:
    """Measures one run."""
    settings = json.loads((run / "config.json").read_text("utf-8"))["settings"]
    recipe = resolve(Recipe, settings)
    last = max((run / "evaluations").glob("step-*.parquet"))
    model = max((run / "checkpoints").glob("step-*")) / "model"
    if model.parent.name != last.stem:
        sys.exit(f"{run}: the last evaluation is {last.stem}, the last checkpoint {model.parent.name}")
    batch = Batch.of(rollouts.read(last))
    policies = (load(recipe.model.model_copy(update={"name": str(model)})), load(recipe.model, recipe.seed))
    now, initial = (measure(policy, batch, recipe.training.micro_tokens) for policy in policies)
    found = {"kl": float((now - initial).double().mean()), "tokens": int(batch.tokens.numel())}
    (run / "divergence.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(Path(argument))
