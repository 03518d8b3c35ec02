"""`klimb rewards compare`: how far reward sources agree, with people and with each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.cli.text import printable
from klimb.config import Settings, apply_words, resolve
from klimb.data.preferences import Preferences, identical, key_of
from klimb.errors import DataError, RewardError
from klimb.rewards import AnyReward
from klimb.yamltext import read_marked

if TYPE_CHECKING:
    from klimb.evaluation.disagreement import Disagreement
    from klimb.evaluation.opinions import Pair


class Sources(Settings):
    """The part of a recipe that names its reward sources."""

    rewards: tuple[AnyReward, ...]
    """The sources, each with a name of its own."""


def compare(
    path: Path, rewards: Path, words: Sequence[str], *, model: str | None = None, as_json: Path | None = None
) -> None:
    """Prints how far the sources agree on the pairs of a file, and writes all of it as JSON. Raises KlimbError."""
    from klimb.atomic import write_atomic
    from klimb.cli.places import texts_of
    from klimb.evaluation.disagreement import compare as compared
    from klimb.evaluation.opinions import opinions
    from klimb.records import pretty

    sources = sources_of(rewards)
    pairs, keys, left_out = pairs_of(resolve(Preferences, apply_words({"path": str(path)}, words, Preferences)))
    tokens = texts_of(model).reply if model else None
    table = compared(list(opinions(pairs, sources.rewards, tokens)), keys)
    if as_json:
        write_atomic(as_json, pretty({**table.record(), "left_out": left_out}))
    print(printable("\n".join(lines_of(table, left_out))))


def sources_of(path: Path) -> Sources:
    """The `rewards` of a YAML file, which may be a whole recipe. Raises SettingsError, RewardError."""
    data, lines = read_marked(path)
    given = data.get("rewards")
    if not isinstance(given, list) or len(given) < 2:
        raise RewardError(f"two reward sources or more in {path}", "fewer", "a list `rewards:`, as in a recipe")
    return resolve(Sources, {"rewards": given}, {where: f"line {line} of {path}" for where, line in lines.items()})


def pairs_of(settings: Preferences) -> tuple[list[Pair], list[str], int]:
    """The pairs of a file, the name of each one's prompt, and how many rows were left out. Raises DataError."""
    from klimb.data.faulty import Faults
    from klimb.evaluation.opinions import Pair

    faults, pairs, keys, same = Faults(), [], [], 0
    for name, one in settings.read(settings.path, faults):
        if len(one.replies) != 2:
            raise DataError(
                "pairs of answers", f"rows={settings.rows} gives single ones", "rows=pairs, or another form"
            )
        if identical(one.replies):
            same += 1
            continue
        chosen, rejected = sorted(one.replies, key=lambda reply: not reply.chosen)
        pairs.append(Pair(settings.ask(name, one.question, None), chosen.text, rejected.text))
        keys.append(key_of(one))
    if not pairs:
        faults.check()
        raise DataError(f"preference pairs in {settings.path}", "none that can be used", "see klimb data inspect")
    return pairs, keys, faults.count + same


def lines_of(table: Disagreement, left_out: int) -> list[str]:
    """The table in words and columns."""
    wide = max(8, *(len(row.name) for row in table.rows)) + 2
    lines = [f"{table.pairs:,} pairs of {table.prompts:,} prompts; {left_out:,} rows left out", ""]
    lines.append(f"{'source':<{wide}}prefers the chosen answer   ties     failed   ms an answer")
    for row in table.rows:
        share = "never scored" if row.accuracy is None else f"{row.accuracy:.3f}  ({row.low:.3f} to {row.high:.3f})"
        ties = f"{row.ties / row.scored:.1%}" if row.scored else "-"
        lines.append(f"{row.name:<{wide}}{share:<28}{ties:<9}{row.failed:<9,}{row.ms:.2f}")
        lines += [f"{'':<{wide}}{count:,} times {why}" for why, count in list(row.failures.items())[:2]]
    lines += _calibrations(table, wide)
    lines += ["", "above the diagonal: how often two prefer the same answer; below: rank correlation of differences"]
    names = [row.name for row in table.rows]
    cells = {(cell.first, cell.second): cell for cell in table.cells}
    lines.append(" " * wide + "".join(f"{name[:10]:>12}" for name in names))
    for below, name in enumerate(names):
        shown = [cells[other, name].correlation for other in names[:below]]
        shown += [None] + [cells[name, other].agreement for other in names[below + 1 :]]
        lines.append(f"{name:<{wide}}" + "".join(f"{'-' if one is None else f'{one:.2f}':>12}" for one in shown))
    if table.conflict is not None:
        lines += [
            "",
            f"of the {table.together:,} pairs that all scored, two sources or more conflict in {table.conflict:.1%};",
        ]
        lines.append(
            f"the majority prefers the chosen answer in {table.majority:.1%}, some source in {table.oracle:.1%}"
        )
    return lines


def _calibrations(table: Disagreement, wide: int) -> list[str]:
    """A line for each source whose scores state how likely a preference is."""
    lines = []
    for row in table.rows:
        if (one := row.calibration) is not None:
            error = f"{one.error:.3f}  ({one.low:.3f} to {one.high:.3f})"
            lines.append(f"{row.name:<{wide}}{one.loss:<14.3f}{error:<28}{one.chance:.3f}")
    return ["", f"{'as log-odds':<{wide}}nats a pair   calibration error           by chance", *lines] if lines else []
