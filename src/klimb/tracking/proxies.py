"""The reward beside a source that is not trained on, over how far the policy has gone: a gamed reward shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean
from typing import Any

from klimb.tracking.charts import Curve, draw
from klimb.tracking.sources import Told

POINTS = 20
"""As many points at most, each the mean over as many steps."""


def proxy(metrics: Sequence[Mapping[str, Any]], row: Told) -> dict[str, Any] | None:
    """The chart of one source of weight 0, as the report shows it; None for other sources, or without two points.

    Over d = sqrt(KL) where the run measures a KL to the initial policy (of an answer: nats a token times the mean
    length), as in Gao et al., 2210.10760; else over the steps. Both lines are shown as shares of their largest change.
    """
    names = ("reward/mean", f"reward/{row.name}")
    lines = [line for line in metrics if row.weight == 0 and all(line.get(name) is not None for name in names)]
    width = -(-len(lines) // POINTS) or 1
    parts = [lines[start : start + width] for start in range(0, len(lines), width)]
    if len(parts) < 2:
        return None
    over_kl = all(_kl(line) is not None for line in lines)
    places = [sqrt(max(0.0, fmean(_kl(m) or 0.0 for m in part))) if over_kl else part[-1]["step"] for part in parts]
    courses = {name: [fmean(float(line[name]) for line in part) for part in parts] for name in names}
    across = "square root of the KL to the initial policy, sqrt(nats)" if over_kl else "step"
    curves = [Curve(name, places, _scaled(values)) for name, values in courses.items()]
    title = f"Reward against {row.name}, which is not trained on"
    return {
        "title": title,
        "unit": "share of its largest change",
        "meaning": "A reward that goes on rising where the other falls is being gamed; points are means of "
        f"{width} step{'s' * (width > 1)}",
        "svg": draw(f"proxy-{row.name}", title, curves, across=across),
        "ends": [f"{name}: {values[0]:.4g} at first, {values[-1]:.4g} at last" for name, values in courses.items()],
    }


def _kl(line: Mapping[str, Any]) -> float | None:
    """Nats of a whole answer."""
    each, length = line.get("policy/kl_ref"), line.get("length/mean")
    return None if each is None or length is None else float(each) * float(length)


def _scaled(values: Sequence[float]) -> list[float]:
    moved = [value - values[0] for value in values]
    largest = max(map(abs, moved))
    return [value / largest for value in moved] if largest > 0 else moved
