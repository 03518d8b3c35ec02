"""`klimb rewards fit`: a word model of labelled answers or of preference pairs, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.cli.text import printable
from klimb.config import apply_words, resolve
from klimb.data.preferences import Preferences, identical, key_of
from klimb.digests import sha256_of
from klimb.errors import DataError

if TYPE_CHECKING:
    from klimb.rewards.word_fitting import Example, Fit
    from klimb.rewards.words import WordModel
    from klimb.types import Reply

SHOWN = 8


def fit(paths: Sequence[Path], out: Path, words: Sequence[str], how: Fit) -> None:
    """Fits a word model to the rows of all files, writes it, and prints how good it is. Raises KlimbError."""
    import json

    from klimb.atomic import write_atomic
    from klimb.rewards import word_fitting

    examples = [one for path in paths for one in examples_of(path, words, how.first)]
    model = word_fitting.fit(examples, how)
    files = {str(path): sha256_of(path) for path in paths}
    model = replace(model, about={**quality(examples, how), "files": files, **asdict(how)})
    write_atomic(out, json.dumps(model.record(), indent=1, allow_nan=False) + "\n")
    print(printable("\n".join([*lines_of(model), f"written to {out}"])))


def examples_of(path: Path, words: Sequence[str], first: int | None = None) -> list[Example]:
    """The rows of a file as examples, of each text the `first` words; pairs of equal texts are left out.

    Raises DataError for what cannot be used.
    """
    from klimb.data.faulty import Faults
    from klimb.rewards.word_fitting import Example
    from klimb.rewards.words import begun

    settings, faults, found = resolve(Preferences, apply_words({"path": str(path)}, words, Preferences)), Faults(), []
    for _, one in settings.read(path, faults):
        replies = sorted((replace(reply, text=begun(reply.text, first)) for reply in one.replies), key=_rejected)
        if len(replies) == 1:
            found.append(Example(key_of(one), replies[0].text, replies[0].chosen))
        elif not identical(replies):
            found.append(Example(key_of(one), replies[0].text, True, replies[1].text))
    if not settings.skip:
        faults.check()
    if not found:
        raise DataError(f"labelled answers or pairs in {path}", "none that can be used", "see klimb data inspect")
    return found


def _rejected(reply: Reply) -> bool:
    return not reply.chosen


def quality(examples: Sequence[Example], how: Fit) -> dict[str, Any]:
    """How often a model of the other prompts judges an example right, with its interval, and the line to beat."""
    from klimb.evaluation.intervals import clustered
    from klimb.rewards.word_fitting import crossed

    right = [0.5 if one == 0 else float(one > 0) for one in crossed(examples, how)]
    share, low, high = clustered(right, [one.key for one in examples])
    if examples[0].other is None:
        true = sum(one.label for one in examples) / len(examples)
        beat = {"line": "the commoner label", "line_share": max(true, 1 - true), "true": true}
    else:
        longer = [len(one.text.split()) - len((one.other or "").split()) for one in examples]
        wins = sum(0.5 if one == 0 else float(one > 0) for one in longer) / len(longer)
        beat = {"line": "the longer answer (or the shorter)", "line_share": max(wins, 1 - wins)}
    prompts = len({one.key for one in examples})
    return {"examples": len(examples), "prompts": prompts, "accuracy": share, "low": low, "high": high, **beat}


def lines_of(model: WordModel) -> list[str]:
    """What was fitted, in words."""
    about = model.about
    strongest = sorted(model.weights, key=lambda gram: (-model.weights[gram], gram))
    share = f"{about['accuracy']:.3f} ({about['low']:.3f} to {about['high']:.3f})"
    size = f"{len(model.weights):,} words and pairs of words"
    return [
        f"{about['examples']:,} examples of {about['prompts']:,} prompts, {size}",
        f"right       {share}, each fifth of the prompts judged by the model of the others",
        f"to beat     {about['line_share']:.3f}: {about['line']}",
        f"speak for   {', '.join(strongest[:SHOWN])}",
        f"and against {', '.join(strongest[: -SHOWN - 1 : -1])}",
    ]
