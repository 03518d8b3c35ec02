"""What came out of a run, in one sentence and one table; no more than was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from klimb.tracking.sources import Told
from klimb.tracking.story import Story

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what was measured, before and after."""

    name: str
    before: str
    after: str


def verdict(story: Story) -> str:
    """A sentence on held-out accuracy, one on the win rate, and one on how far the run came if it is not at its end."""
    return " ".join(part for part in (_accuracy(story), _won(story), _progress(story)) if part)


def table(story: Story) -> list[Row]:
    """Held-out measures before and after: correctness and format apart."""
    if not (found := story.evaluations):
        return []
    first, last = found[0], found[-1]
    rows = [
        Row("measured after step", str(first["step"]), str(last["step"])),
        Row("correct (accuracy)", _interval(first, "eval/accuracy"), _interval(last, "eval/accuracy")),
        *(Row(f"correct, {side}", _interval(first, name), _interval(last, name)) for side, name in sides(last).items()),
        Row("in the wanted form (format)", _interval(first, "eval/format"), _interval(last, "eval/format")),
        Row("mean score", _number(first, "eval/score"), _number(last, "eval/score")),
        Row("mean length, tokens", _number(first, "eval/length"), _number(last, "eval/length")),
        Row("problems scored", _number(first, "eval/n"), _number(last, "eval/n")),
        Row("could not be scored (in neither)", _number(first, "eval/failed"), _number(last, "eval/failed")),
    ]
    return [row for row in rows if (row.before, row.after) != ("-", "-")]


def gamed(row: Told) -> str:
    """One sentence on how a source that is not trained on went beside the reward; empty where that is not known."""
    seen = row.course
    if seen is None:
        return ""
    rewards = f"the reward went from {seen.reward_then:.3g} to {seen.reward_now:.3g}"
    if seen.now >= seen.best:
        return f"{row.name}, which is not trained on, is at its best at the end: {seen.now:.3g}."
    since = f"{row.name}, which is not trained on, was best at step {seen.step} ({seen.best:.3g}) and is {seen.now:.3g}"
    if not seen.gamed:
        return f"{since}; since then {rewards}, so it does not rise at the other's cost."
    chance = "The reward is being gamed" if seen.sure else "That may be chance"
    return f"{since}, while {rewards}. {chance}."


def sides(record: Record) -> dict[str, str]:
    """The metrics with the accuracy for each value of a column of the data, by that value."""
    whole = "eval/accuracy"
    named = {name.removeprefix(f"{whole}_"): name for name in record if name.startswith(f"{whole}_")}
    return {side: name for side, name in named.items() if f"{name}_low" in record}


def _accuracy(story: Story) -> str:
    found = story.evaluations
    if not found:
        return "Held-out accuracy was not measured."
    first, last = found[0], found[-1]
    if len(found) == 1:
        return f"Held-out accuracy was measured once, after step {first['step']}: {percent(first['eval/accuracy'])}."
    change = last["eval/accuracy"] - first["eval/accuracy"]
    length = last["step"] - first["step"]
    if change == 0:
        return f"Held-out accuracy is {percent(last['eval/accuracy'])} after {length} steps, as it was before."
    verb = "rose" if change > 0 else "fell"
    sure, interval = _certainty(first, last)
    numbers = (
        f"from {percent(first['eval/accuracy'])} to {percent(last['eval/accuracy'])} ({_points(change)}{interval})"
    )
    return f"Held-out accuracy {verb} {numbers} in {length} steps{sure}."


def _certainty(first: Record, last: Record) -> tuple[str, str]:
    """Whether the change is more than chance, and its interval; the paired one where it was measured."""
    low, high = last.get("eval/gain_low"), last.get("eval/gain_high")
    if low is not None and high is not None:
        beyond = low > 0 or high < 0
        interval = f"; 95 % interval {_points(low)} to {_points(high)}"
        return ("" if beyond else "; that may be chance"), interval
    ends = ("eval/low", "eval/high")
    if any(record.get(end) is None for record in (first, last) for end in ends):
        return "; how sure that is was not measured", ""
    apart = last["eval/low"] > first["eval/high"] or last["eval/high"] < first["eval/low"]
    return ("" if apart else "; the 95 % intervals overlap, so that may be chance"), ""


def _won(story: Story) -> str:
    """How often the last held-out answers were better than those from before training; empty where nobody judged.

    Where none of them could be judged, that, after what was last found.
    """
    asked = [one for one in story.metrics if one.get("eval/win") is not None or one.get("eval/win_failed")]
    found = [one for one in asked if one.get("eval/win") is not None]
    said = [_share_won(found[-1])] if found else []
    if asked and asked[-1] not in found:
        none = f"After step {asked[-1]['step']} none of {asked[-1]['eval/win_failed']:.0f} held-out answers"
        said.append(f"{none} could be judged against those from before training: the win rate is not known.")
    return " ".join(said)


def _share_won(last: Record) -> str:
    left = f", {last['eval/win_failed']:.0f} could not be judged" if last.get("eval/win_failed") else ""
    return (
        f"After step {last['step']} the answer was the better one of that and the one from before training for "
        f"{_interval(last, 'eval/win')} of {last['eval/win_n']:.0f} held-out prompts (a tie is a half{left})."
    )


def _progress(story: Story) -> str:
    if story.steps is None or story.step >= story.steps:
        return ""
    return f"The run is not at its end: step {story.step} of {story.steps}."


def percent(share: float) -> str:
    """`37.1 %`."""
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _interval(record: Record, name: str) -> str:
    value = record.get(name)
    if value is None:
        return "-"
    prefix = "eval/" if name == "eval/accuracy" else f"{name}_"
    low, high = record.get(f"{prefix}low"), record.get(f"{prefix}high")
    if low is None or high is None:
        return f"{percent(value)} (no interval)"
    return f"{percent(value)} (95 %: {percent(low)} to {percent(high)})"


def _number(record: Record, name: str) -> str:
    value = record.get(name)
    return "-" if value is None else f"{value:.4g}"
