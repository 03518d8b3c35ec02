"""Curves as SVG that stands inside a page and takes the page's colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INK, RULE = "#0a0b0c", "#0a0b0d"
SERIES = ("#0a0b1a", "#0a0b1b", "#0a0b1c", "#0a0b1d")
"""Stand-ins that are replaced by the page's colours: var(--ink), var(--rule), var(--s1)..."""
DASHES = ("-", "--", ":")
LOOK: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "klimb", "font.size": 9, "axes.edgecolor": RULE, "axes.labelcolor": INK,
    "xtick.color": RULE, "ytick.color": RULE, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "text.color": INK,
    "grid.color": RULE, "grid.linewidth": 0.5, "axes.spines.top": False, "axes.spines.right": False,
    "path.simplify": True, "axes.formatter.useoffset": False,
}  # fmt: skip
MOST = 2000
"""Points a line is drawn with; longer ones are thinned evenly."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line over the steps, or over what else is said; `low` and `high` are its interval."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def curve(
    records: Sequence[Mapping[str, Any]], name: str, low: str = "", high: str = "", label: str = ""
) -> Curve | None:
    """The course of a metric over the records that have it, with its interval where all have that; None for none."""
    rows = [record for record in records if record.get(name) is not None]
    if not rows:
        return None
    rows = rows[:: -(-len(rows) // MOST)]
    ends = bool(low) and all(r.get(low) is not None and r.get(high) is not None for r in rows)
    return Curve(
        label or name,
        [int(record["step"]) for record in rows],
        [float(record[name]) for record in rows],
        [float(record[low]) for record in rows] if ends else (),
        [float(record[high]) for record in rows] if ends else (),
    )


def draw(key: str, title: str, curves: Sequence[Curve], *, percent: bool = False, across: str = "step") -> str:
    """An `<svg>` of the curves; `key` keeps its inner names apart from those of other charts on the page.

    `across` says what the curves are over. There are four colours; further lines have them again, dashed and dotted.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(4.6, 2.5))
        axes = figure.add_axes((0.13, 0.18, 0.85, 0.77))  # fixed: laying out by measuring takes half of the time
        for place, line in enumerate(curves):
            colour, dash = SERIES[place % len(SERIES)], DASHES[place // len(SERIES) % len(DASHES)]
            mark: Any = {"marker": "o" if len(line.steps) <= 12 else "", "markersize": 3.5}
            axes.plot(line.steps, line.values, dash, color=colour, linewidth=1.6, label=line.name, **mark)
            if line.low:
                axes.fill_between(line.steps, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=across == "step"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(across)
        axes.grid(axis="y")
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=8)
        text = io.StringIO()
        figure.savefig(
            text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    return fit(key, title, text.getvalue())


def fit(key: str, title: str, svg: str) -> str:
    """matplotlib's SVG without prologue and fixed size, with the page's colours and fonts, and names of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<style type="text/css">.*?</style>', "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}" class="chart"', 1)
    svg = re.sub(r'id="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", svg)
    svg = re.sub(r"font: ([^;\"]*?)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    for number, colour in enumerate(SERIES, 1):
        svg = svg.replace(colour, f"var(--s{number})")
    return svg.replace(INK, "var(--ink)").replace(RULE, "var(--rule)")
