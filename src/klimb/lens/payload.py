"""What the page's script reads: prompts, rows, tokens and their values, as compact as plain JSON allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from klimb.lens.summary import Summary
from klimb.lens.text import shown, token
from klimb.lens.view import View
from klimb.types import Group, Rollout


@dataclass(frozen=True, slots=True)
class Colouring:
    """A value that tokens can be coloured by. `kind`: rising, falling (low values stand out), about (a middle), yes."""

    key: str
    name: str
    unit: str
    kind: str
    meaning: str


COLOURINGS = (
    Colouring("entropy", "Entropy", "nats", "rising", "how undecided the policy was when it drew this token"),
    Colouring("logp", "Log-prob", "nats", "falling", "log-probability of the token when it was drawn"),
    Colouring("now_logp", "Log-prob after", "nats", "falling", "log-probability under the policy that measures"),
    Colouring("ratio", "Ratio", "×", "about one", "probability under the policy that measures over that when drawn"),
    Colouring("kl", "KL to initial", "nats", "rising", "divergence of the measuring policy from the initial one here"),
    Colouring("advantage", "Advantage", "", "about zero", "how much better than expected the objective takes it for"),
    Colouring("kept", "Kept", "", "yes", "whether the selector lets this token learn"),
)
ONLY_SHOWN = {
    "now_entropy": "Entropy after",
    "initial_logp": "Log-prob, initial",
    "initial_entropy": "Entropy, initial",
}
"""Values that stand beside a token and have no colouring of their own."""


class Table:
    """Each text once; its number stands for it."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def payload(views: Sequence[View], summaries: Sequence[Summary]) -> dict[str, Any]:
    """Everything the script needs; all texts are made visible already."""
    table = Table()
    keys = [one for one in COLOURINGS if any(one.key in view.values for view in views)]
    return {
        "views": [_view(view, one, table) for view, one in zip(views, summaries, strict=True)],
        "prompts": _prompts(views),
        "colourings": [{**asdict(one), "range": _range(one, views)} for one in keys],
        "also": ONLY_SHOWN,
        "words": list(table.numbers),
    }


def _view(view: View, summary: Summary, table: Table) -> dict[str, Any]:
    groups, place = [], 0
    ends = np.searchsorted(view.row, np.arange(sum(len(group.rollouts) for group in view.groups) + 1))
    for group in view.groups:
        rows = []
        for one in group.rollouts:
            rows.append(_row(view, one, place, slice(ends[place], ends[place + 1]), table))
            place += 1
        answer = None if group.prompt.answer is None else shown(group.prompt.answer)
        groups.append({"prompt": shown(_prompt(group, view)), "answer": answer, "rows": rows})
    return {"name": shown(view.name), "threshold": summary.threshold, "groups": groups}


def _row(view: View, one: Rollout, place: int, part: slice, table: Table) -> dict[str, Any]:
    values = {name: [_short(value) for value in column[part].tolist()] for name, column in view.values.items()}
    row = {
        "name": f"completion {one.k + 1}",
        "reward": _short(one.reward) if one.reward is not None else None,
        "finish": one.completion.finish.value,
        "live": view.live[place] if view.live else None,
        "tokens": [table(token(view.words(number))) for number in view.tokens[part].tolist()],
        "values": values,
    }
    if view.likeliest is not None and view.probability is not None:
        row["best"] = [table(token(view.words(number))) for number in view.likeliest[part].ravel().tolist()]
        row["chance"] = [round(1e4 * value) for value in view.probability[part].ravel().tolist()]
    return row


def _prompt(group: Group, view: View) -> str:
    prompt = group.prompt
    if prompt.messages:
        return "\n".join(f"{turn.role}: {turn.content}" for turn in prompt.messages)
    return prompt.text or "".join(view.words(number) for number in prompt.tokens)


def _prompts(views: Sequence[View]) -> list[list[int]]:
    """For each prompt its place in each view, -1 where it is not there; those that are in all of them first."""
    named = [{key: place for place, key in enumerate(_keys(view.groups))} for view in views]
    every = dict.fromkeys(key for one in named for key in one)
    places = [[one.get(key, -1) for one in named] for key in every]
    return sorted(places, key=lambda each: -1 in each)


def _keys(groups: Sequence[Group]) -> Iterator[tuple[str, int]]:
    """A prompt's id, and the how-manieth time it is asked."""
    times: dict[str, int] = {}
    for group in groups:
        times[group.prompt.id] = times.get(group.prompt.id, -1) + 1
        yield group.prompt.id, times[group.prompt.id]


def _range(one: Colouring, views: Sequence[View]) -> list[float]:
    """The ends of the absolute scale: without the half percent that is farthest out."""
    parts = [view.values[one.key] for view in views if one.key in view.values]
    values = np.concatenate(parts) if parts else np.zeros(0)
    values = np.log(values) if one.kind == "about one" else values
    if not values.size:
        return [0.0, 1.0]
    if one.kind.startswith("about"):
        most = float(np.quantile(np.abs(values), 0.995)) or 1.0
        return [-most, most]
    if one.kind == "falling":
        return [float(np.quantile(values, 0.005)), 0.0]
    return [0.0, float(np.quantile(values, 0.995)) or 1.0]


def _short(value: float) -> float | int | None:
    """A number of four digits, an integer where it is one."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.4g}") if abs(value) >= 1e-6 else 0.0
    return int(short) if short == int(short) else short
