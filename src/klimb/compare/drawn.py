"""A grid of two temperatures as a figure: accuracy by colour and in numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.atomic import write_atomic

if TYPE_CHECKING:
    from klimb.compare.temperatures import Cell


def write(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Writes temperatures.svg and temperatures.png into a folder that is there; returns the files."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    highs, lows = (sorted({getattr(cell.forking, side) for cell in cells}) for side in ("high", "low"))
    share = {(cell.forking.high, cell.forking.low): cell.found.accuracy for cell in cells}
    done = []
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "klimb", "font.size": 9}):
        figure = Figure(figsize=(1.6 + 0.8 * len(lows), 1.3 + 0.55 * len(highs)), layout="constrained")
        axes = figure.add_subplot()
        values = [[float("nan") if (one := share[high, low]) is None else one.value for low in lows] for high in highs]
        axes.imshow(values, origin="lower", aspect="auto", cmap="viridis", vmin=0.0, vmax=1.0)
        for y, line in enumerate(values):
            for x, value in enumerate(line):
                axes.text(x, y, f"{100 * value:.0f} %", ha="center", va="center", color="k" if value > 0.6 else "w")
        axes.set_xticks(range(len(lows)), [f"{low:g}" for low in lows])
        axes.set_yticks(range(len(highs)), [f"{high:g}" for high in highs])
        threshold = cells[0].forking.threshold
        axes.set_xlabel(f"temperature up to {threshold:g} nats")
        axes.set_ylabel("temperature above")
        for kind, plain in (("svg", dict.fromkeys(("Date", "Creator"))), ("png", {"Software": None})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=200, metadata=plain)
            write_atomic(folder / f"temperatures.{kind}", content.getvalue())
            done.append(folder / f"temperatures.{kind}")
    return done
