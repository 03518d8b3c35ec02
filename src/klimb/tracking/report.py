"""The report: one file that shows a run to people, made only from its directory, without scripts or network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.atomic import write_atomic
from klimb.rundir import RunDir
from klimb.tracking.charts import Curve, curve, draw
from klimb.tracking.console import event_line
from klimb.tracking.metrics import find
from klimb.tracking.proxies import proxy
from klimb.tracking.sources import Cost
from klimb.tracking.stages import span
from klimb.tracking.story import Story, tell, time_by_stage
from klimb.tracking.verdict import gamed, sides, table, verdict
from klimb.tracking.visible import visible

if TYPE_CHECKING:
    from jinja2 import Template

SHOWN_EVENTS = 100
"""The newest events that the report lists; the number of all is said."""

CHARTS: tuple[tuple[str, str, tuple[str, ...], bool], ...] = (
    ("accuracy", "Held-out accuracy", ("eval/accuracy", "eval/format"), True),
    ("reward", "Reward", ("reward/mean",), False),
    ("entropy", "Entropy", ("policy/entropy",), False),
    ("kl", "KL divergence", ("policy/kl_ref", "policy/kl_old"), False),
    ("length", "Length of completions", ("length/mean",), False),
    ("gap", "Sampler against trainer", ("policy/gap",), False),
    ("time", "Time of a step", ("time/step",), False),
)
"""Key, title, metrics, whether in percent."""
EXTRA: tuple[tuple[str, str, tuple[str, ...], bool], ...] = (
    ("win", "Win rate against the answers from before training", ("eval/win",), True),
    ("sources", "Scores of the sources", ("reward/<source>",), False),
    ("goes", "What the reward goes with", ("hacking/by_length", "hacking/with_<source>"), False),
    ("contrary", "How far the sources disagree", ("hacking/disagreement",), False),
    ("arms", "Which source gave the reward", ("bandit/share_<name>",), True),
    ("bandit", "The bandit over the sources", ("bandit/gain", "bandit/width", "bandit/saturated"), False),
    ("widths", "How unsure the bandit is of each source", ("bandit/width_<name>",), False),
)
"""The same of entries of the glossary, for runs with several sources; not missed where there are none."""
INTERVALS = {"eval/accuracy": ("eval/low", "eval/high"), "eval/format": ("eval/format_low", "eval/format_high")}
INTERVALS["eval/win"] = ("eval/win_low", "eval/win_high")


def write_report(run: RunDir) -> Path:
    """Writes report.html into the run directory, atomically, and returns its path."""
    write_atomic(run.report_file, render(tell(run)))
    return run.report_file


def render(story: Story) -> str:
    """The page. The same story gives the same text."""
    from markupsafe import Markup

    charts, absent = _charts(story)
    return (
        _template().render(
            story=story,
            verdict=verdict(story),
            table=table(story),
            charts=[{**chart, "svg": Markup(chart["svg"])} for chart in charts],  # noqa: S704 numbers drawn by ourselves
            missing=[*story.missing, *absent],
            stages=time_by_stage(story.metrics),
            events=[_event(event) for event in story.events[-SHOWN_EVENTS:]],
            environment=_rows(story.environment),
        )
        + "\n"
    )


@cache
def _template() -> Template:
    """The page's form, read and compiled once."""
    from jinja2 import Environment, StrictUndefined

    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Any] = {"visible": lambda value: visible(str(value)), "span": span, "together": _together}
    filters |= {"ends": _course, "gamed": gamed, "each": _each}
    engine.filters |= filters
    return engine.from_string(files("klimb.tracking").joinpath("report.html.j2").read_text("utf-8"))


def _charts(story: Story) -> tuple[list[dict[str, Any]], list[str]]:
    """The charts that can be drawn, and a line for each that cannot."""
    charts, absent = [], []
    for key, title, names, percent in CHARTS:
        curves = _curves(story.metrics, names)
        if not curves:
            absent.append(f"{title.lower()}: no {names[0]} in metrics.jsonl")
            continue
        charts.append(_chart(key, title, curves, percent))
    for key, title, entries, percent in EXTRA if len(story.sources.rows) > 1 else ():
        seen = dict.fromkeys(name for line in story.metrics for name in line)
        known = [name for name in seen if (metric := find(name)) is not None and metric.name in entries]
        if curves := _curves(story.metrics, known):
            charts.append(_chart(key, title, curves, percent))
    charts += [chart for row in story.sources.rows if (chart := proxy(story.metrics, row)) is not None]
    return charts, absent


def _chart(key: str, title: str, curves: Sequence[Curve], percent: bool) -> dict[str, Any]:
    metric = find(curves[0].name)
    unit, meaning = (metric.unit, metric.meaning) if metric else ("", "")
    svg = draw(key, title, curves, percent=percent)
    return {"title": title, "unit": unit, "meaning": meaning, "svg": svg, "ends": [_ends(c) for c in curves]}


def _curves(metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Curve]:
    apart = sides(dict.fromkeys(key for record in metrics for key in record)) if "eval/accuracy" in names else {}
    ends = INTERVALS | {name: (f"{name}_low", f"{name}_high") for name in apart.values()}
    found = (curve(metrics, name, *ends.get(name, ())) for name in [*names, *apart.values()])
    return [line for line in found if line is not None]


def _ends(line: Curve) -> str:
    return f"{line.name}: {line.values[0]:.4g} at step {line.steps[0]}, {line.values[-1]:.4g} at step {line.steps[-1]}"


def _course(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3g} \N{RIGHTWARDS ARROW} {ends[1]:.3g}"


def _each(cost: Cost) -> str:
    """Seconds an answer, down to millionths."""
    if not cost.answers:
        return "-"
    seconds = cost.seconds / cost.answers
    return span(seconds) if seconds >= 0.001 else f"{1e6 * seconds:.0f} \N{MICRO SIGN}s"


def _together(text: str) -> str:
    """Percent signs stay with their numbers at the end of a line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _event(event: Mapping[str, Any]) -> tuple[str, str]:
    """When, and what in one harmless line."""
    hidden = ("time", "kind", "environment")
    details = {name: value for name, value in event.items() if name not in hidden}
    return visible(str(event.get("time", "")), lines=False), event_line(str(event.get("kind", "event")), details)


def _rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment line by line; the command is shown apart."""
    rows: list[tuple[str, str]] = []
    for name, value in environment.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}: {inner}", str(item)) for inner, item in value.items()]
        elif name != "argv":
            rows.append((name, str(value)))
    return rows
