"""Whether a study of LASeR can show anything: what its sources say of the initial policy's answers, side by side.

Usage: python bench/laser_gate.py RUN
RUN is a run that asked every source (`combining.type=mean`) and learned nothing (`optimizer.lr=0`). For all of its
groups and for each side of the data (`evaluation.by`): in what share of them a source tells answers apart, in what
share of answers it gives the threshold of the evaluation or more (a judge that always or never does cannot judge),
and the rank correlation of its scores with those of each source of weight 0, inside prompts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pairing import settings, weights

from klimb import rollouts
from klimb.correlation import within
from klimb.tracking.hacking import scores_of
from klimb.types import Group


def apart(groups: Sequence[Group], name: str) -> float:
    """The share of groups in which a source gives two scores that differ."""
    return fmean(
        len({value for one in group.rollouts if (value := one.scores[name].value) is not None}) > 1 for group in groups
    )


def over(told: NDArray[np.float64], threshold: float) -> float:
    """The share of the scores that reach a threshold; a failure (NaN) is none of them."""
    return float((told[~np.isnan(told)] >= threshold).mean())


def table(groups: Sequence[Group], names: Sequence[str], judges: Sequence[str], exam: Mapping[str, Any]) -> str:
    """The table in Markdown; `exam`: the settings `evaluation` of the run."""
    by, threshold = exam["by"], exam["threshold"]
    heads = [
        "side",
        "groups",
        "source",
        "tells apart",
        f"{threshold} or more",
        *(f"with `{judge}`" for judge in judges),
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + len(heads) * " --- |"]
    for side in ["all", *sorted({str(group.prompt.metadata.get(by, "")) for group in groups})]:
        some = [group for group in groups if side in ("all", str(group.prompt.metadata.get(by, "")))]
        told = scores_of([one for group in some for one in group.rollouts])
        inside = [place for place, group in enumerate(some) for _ in group.rollouts]
        for name in names:
            found = [within(told[name], told[judge], inside) for judge in judges]
            cells = [f"{apart(some, name):.0%}", f"{over(told[name], threshold):.0%}"]
            cells += ["" if one is None else f"{one:+.2f}" for one in found]
            lines.append(f"| {' | '.join([side, str(len(some)), name, *cells])} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table of the run that is named."""
    run = Path(sys.argv[1])
    asked = settings(run)
    names = weights(asked)
    judges = [name for name, weight in names.items() if weight == 0]
    groups = [group for file in sorted((run / "rollouts").glob("*.parquet")) for group in rollouts.read(file)]
    print(table(groups, list(names), judges, asked["evaluation"]))


if __name__ == "__main__":
    main()
