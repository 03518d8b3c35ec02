"""The distributions of one or two views as figures: for the page in its colours, and as SVG and PNG for papers."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.atomic import write_atomic
from klimb.lens.statistics import LOW
from klimb.lens.summary import Summary, WordEntropy
from klimb.tracking.charts import INK, LOOK, RULE, SERIES, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Named = Sequence[tuple[str, Summary]]
PAPER = {
    INK: "#1b1d21",
    RULE: "#8a8f96",
    **dict(zip(SERIES, ("#0b5cad", "#b34d00", "#6a3fa0", "#1a6d33"), strict=True)),
}
"""What stands for the page's colours in files."""
TITLES = {
    "entropy": "How undecided the policy was",
    "position": "Entropy along the completion",
    "change": "Change of entropy since the initial policy",
    "overlap": "Top tokens shared with the initial policy",
    "kept": "Kept tokens by reward",
    "highest": "Token strings of highest entropy",
    "lowest": "Token strings of lowest entropy",
}


def for_page(named: Named) -> dict[str, str]:
    """The SVG of each figure that has something to show, in the page's colours and without style attributes."""
    return {key: presentation(fit(key, TITLES[key], _svg(figure))) for key, figure in figures(named, {})}


def write(named: Named, folder: Path) -> list[Path]:
    """Writes each figure as SVG and as PNG; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    for key, figure in figures(named, PAPER):
        picture = io.BytesIO()
        with _any_glyph():
            figure.savefig(picture, format="png", dpi=200, metadata={"Software": None})
        for ending, content in ((".svg", _svg(figure).encode()), (".png", picture.getvalue())):
            write_atomic(folder / f"{key}{ending}", content)
            done.append(folder / f"{key}{ending}")
    return done


def figures(named: Named, colours: Mapping[str, str]) -> Iterator[tuple[str, Figure]]:
    """Key and figure, for those that have something to show; stand-in colours are replaced by `colours`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    look = {name: colours.get(value, value) if isinstance(value, str) else value for name, value in LOOK.items()}
    shades = [colours.get(colour, colour) for colour in SERIES]
    for key, draw in DRAWN.items():
        with mpl.rc_context(look):
            figure = Figure(figsize=(4.6, 2.6))
            lies = key in ("highest", "lowest")
            axes = figure.add_axes((0.28, 0.19, 0.69, 0.76) if lies else (0.15, 0.19, 0.82, 0.76))
            if draw(axes, named, shades):
                axes.grid(axis="x" if lies else "y")
                axes.set_axisbelow(True)
                yield key, figure


def presentation(svg: str) -> str:
    """Style attributes as attributes of their own, which a content-security policy without inline styles allows."""

    def split(match: re.Match[str]) -> str:
        pairs = (part.partition(":") for part in match[1].split(";") if ":" in part)
        return " ".join(f'{name.strip()}="{value.strip()}"' for name, _, value in pairs)

    return re.sub(r'style="([^"]*)"', split, svg)


def _entropy(axes: Any, named: Named, shades: Sequence[str]) -> bool:
    shown = [(name, one) for name, one in named if one.histogram]
    for (name, one), colour in zip(shown, shades, strict=False):
        assert one.histogram is not None
        under = "" if one.share_under is None else f", {100 * one.share_under:.0f} % under {LOW}"
        axes.stairs(one.histogram.counts, one.histogram.edges, color=colour, linewidth=1.4, label=name + under)
        if len(shown) == 1:
            axes.stairs(one.histogram.counts, one.histogram.edges, color=colour, fill=True, alpha=0.25)
        if one.threshold is not None:
            axes.axvline(one.threshold, color=colour, linewidth=1.2, linestyle="--")
    if shown:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        _named(axes, "entropy (nats); dashed: the top 20 % lie right of it", "tokens")
        axes.legend(frameon=False, fontsize=8)
    return bool(shown)


def _position(axes: Any, named: Named, shades: Sequence[str]) -> bool:
    shown = [(name, one.by_position) for name, one in named if len(one.by_position) > 1]
    for (name, bins), colour in zip(shown, shades, strict=False):
        axes.plot(
            [(one.start + one.stop - 1) / 2 for one in bins], [one.mean for one in bins], color=colour, label=name
        )
    _named(axes, "place in the completion (tokens)", "mean entropy (nats)", len(shown) > 1)
    return bool(shown)


def _change(axes: Any, named: Named, shades: Sequence[str]) -> bool:
    shown = [(name, one.change) for name, one in named if one.change]
    width = 4.4 / max(1, len(shown))
    for place, ((name, bins), colour) in enumerate(zip(shown, shades, strict=False)):
        starts = [one.start + 0.3 + place * width for one in bins]
        axes.bar(starts, [one.mean for one in bins], width, align="edge", color=colour, label=name)
    axes.axhline(0.0, color=axes.spines["left"].get_edgecolor(), linewidth=0.8)
    _named(axes, "percentile of the initial entropy", "mean change (nats)", len(shown) > 1)
    return bool(shown)


def _overlap(axes: Any, named: Named, shades: Sequence[str]) -> bool:
    shown = [(name, one.overlaps) for name, one in named if len(one.overlaps) > 1]
    for (name, course), colour in zip(shown, shades, strict=False):
        shares = [100 * one.share for one in course.values()]
        axes.plot([int(at) for at in course], shares, color=colour, marker="o", markersize=3.5, label=name)
        for (at, one), share in zip(course.items(), shares, strict=True):
            axes.annotate(str(one.of), (int(at), share), (0, -9), textcoords="offset points", ha="center", fontsize=6)
    axes.set_ylim(0, 104)
    _named(axes, "step (at each point: of how many top tokens of its rollouts)", "share of the top 20 % (%)")
    return bool(shown)


def _kept(axes: Any, named: Named, shades: Sequence[str]) -> bool:
    shown = [(name, one.kept_by_reward) for name, one in named if one.kept_by_reward]
    for (name, bins), colour in zip(shown, shades, strict=False):
        middles, shares = [(one.start + one.stop) / 2 for one in bins], [100 * one.mean for one in bins]
        axes.plot(middles, shares, color=colour, marker="o", markersize=5, linestyle="", label=name)
    axes.set_ylim(0, 104)
    axes.margins(x=0.1)
    _named(axes, "reward of the completion", "tokens kept (%)", len(shown) > 1)
    return bool(shown)


def _words(axes: Any, words: Sequence[WordEntropy], least: int, colour: str) -> bool:
    """Bars from the top; what a model wrote is never taken for mathematics."""
    words = words[:12]
    axes.barh(range(len(words)), [one.mean for one in words], 0.7, color=colour)
    labels = [f"{one.text.strip() or repr(one.text)[1:-1]} ×{one.count}"[:26] for one in words]
    axes.set_yticks(range(len(words)), labels, fontsize=7, parse_math=False)
    axes.invert_yaxis()
    _named(axes, f"mean entropy (nats); at least {least} times each", "")
    return bool(words)


def _named(axes: Any, across: str, up: str, legend: bool = False) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    if legend:
        axes.legend(frameon=False, fontsize=8)


DRAWN: dict[str, Callable[[Any, Named, Sequence[str]], bool]] = {
    "entropy": _entropy,
    "highest": lambda axes, named, shades: _words(axes, named[0][1].highest, named[0][1].least, shades[0]),
    "lowest": lambda axes, named, shades: _words(axes, named[0][1].lowest, named[0][1].least, shades[0]),
    "position": _position,
    "change": _change,
    "overlap": _overlap,
    "kept": _kept,
}


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "klimb"}), _any_glyph():
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return text.getvalue()


@contextmanager
def _any_glyph() -> Iterator[None]:
    """Without warnings for letters that matplotlib's font lacks: a browser has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield
