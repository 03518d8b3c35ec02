"""What scoring costs: four rules in processes of their own, as a share of a training step of the demo's model.

Usage: python bench/reward_overhead.py [--steps N] [--json]
The demo's recipe (64 completions a step) is trained for some steps with four functions of bench/four_rules.py as its
rewards. The first step, in which memory is allocated, is not counted. Printed are medians.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median

from contestant import Options

import klimb

HERE = Path(__file__).parent
RULES = ("right", "form", "brief", "fresh")


def main() -> None:
    """Trains, and prints seconds and the share."""
    parser = Options(__doc__)
    parser.number("--steps", 6, "measured optimizer steps, after one warm-up step")
    parser.switch("--json", "end with one line of JSON")
    args = parser.parse_args()
    rules = [{"type": "function", "name": rule, "path": f"{HERE / 'four_rules.py'}:{rule}"} for rule in RULES]
    words = ("evaluation.start=false", "evaluation.end=false", "evaluation.every=1000", "evaluation.correct=right")
    recipe = klimb.load_recipe(
        HERE.parent / "recipes/demo.yaml", f"rewards={json.dumps(rules)}", f"training.steps={args.steps + 1}", *words
    )
    with tempfile.TemporaryDirectory() as folder:
        klimb.train(recipe, run=Path(folder) / "run")
        lines = [json.loads(line) for line in (Path(folder) / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    counted = [line for line in lines if line["step"] > 1]
    score, step = (median(line[f"time/{name}"] for line in counted) for name in ("score", "step"))
    completions = recipe.source.prompts * recipe.source.completions
    print(
        f"{completions} completions by {len(RULES)} rules: {score:.3f} s of a step of {step:.2f} s, {score / step:.2%}"
    )
    if args.json:
        print(json.dumps({"score_s": score, "step_s": step, "share": score / step, "steps": len(counted)}))


if __name__ == "__main__":
    main()
