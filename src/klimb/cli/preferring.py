"""`klimb data inspect` of preference rows, in a file or as a recipe reads them, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from klimb.cli import places, recipes
from klimb.cli.text import printable
from klimb.config import apply_words, resolve
from klimb.data.base import Data, Problems
from klimb.data.faulty import Faults
from klimb.data.inspecting import inspect as inspected
from klimb.data.preferences import PreferenceRows, Preferences, key_of
from klimb.data.tokenizing import tokenized
from klimb.errors import DataError
from klimb.rendering import encoding
from klimb.types import Encode, Prompt

if TYPE_CHECKING:
    from klimb.policy.texts import Texts

RECIPES = (".yaml", ".yml")
Cut = tuple[int | None, int | None]
"""Where training would cut prompts and answers, in tokens; None = nowhere."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form of the rows (None: as `words` or the recipe say), the model whose tokens are counted, and the cut."""

    form: str | None = None
    model: str | None = None
    cut: Cut | None = None


def inspect(path: Path, wanted: Wanted, words: Sequence[str] = (), *, as_json: Path | None = None) -> None:
    """Prints what the rows of a file or recipe hold, and writes the same as JSON. Raises DataError, SettingsError.

    `words` are the settings of the data, with or without `data.` before them; of a recipe, any of its settings.
    """
    from klimb.atomic import write_atomic
    from klimb.records import pretty

    if wanted.cut and wanted.model is None:
        raise DataError("--cut counts tokens", "no model to count them with", "--policy MODEL")
    if wanted.cut and min(size or 0 for size in wanted.cut) < 1:
        raise DataError("--cut wants two lengths of at least 1", str(wanted.cut), "--cut 512 256")
    faults = Faults()
    data, cut, scored = _settings(path, wanted, words)
    problems, leaked = _opened(data, faults)
    size, fit = None, None
    if wanted.model:
        texts = places.texts_of(wanted.model)
        encode = encoding(texts, scored)
        size, fit = partial(_size, texts, encode), tokenized(problems, texts, encode, *cut)
    found = inspected(problems, size, leaked)
    if as_json:
        more = {} if fit is None else {"tokenized": fit.record()}
        write_atomic(as_json, pretty({**found.record(), **more, "unusable": faults.count, "shown": faults.lines()}))
    lines = [*found.lines(), *(fit.lines() if fit else []), f"unusable    {faults.count:,} rows", *faults.lines()]
    print(printable("\n".join(lines)))


def _size(texts: Texts, encode: Encode, text: str) -> int:
    """The tokens of an answer, EOS included, whatever it is the answer to; of one that is not read, those it spells."""
    try:
        return len(encode(Prompt("", text=""), text))
    except DataError:
        return len(texts.reply(text))


def _settings(path: Path, wanted: Wanted, words: Sequence[str]) -> tuple[Data, Cut, bool]:
    """How the rows are read, where they are cut, and whether a reward model reads them."""
    if path.suffix not in RECIPES:
        given = {"path": str(path)} | ({} if wanted.form is None else {"rows": wanted.form})
        plain = [word.removeprefix("data.") for word in words]
        data = resolve(Preferences, apply_words(given, plain, Preferences))
        return data, wanted.cut or (None, None), wanted.model is not None and places.scores(wanted.model)
    if wanted.form is not None:
        raise DataError(f"--rows {wanted.form}", f"{path}, a recipe, which says it", f"data.rows={wanted.form}")
    recipe = recipes.load(str(path), words)
    cuts = (getattr(recipe.source, name, None) for name in ("prompt_tokens", "answer_tokens"))
    return recipe.data, wanted.cut or (next(cuts), next(cuts)), recipe.scorer


def _opened(data: Data, faults: Faults) -> tuple[Problems, int | None]:
    """What training would have, and how many held-out prompts stand in the training file; None where it is split."""
    if isinstance(data, PreferenceRows):
        reading = data.model_copy(update={"skip": True})
        train, held = reading.apart(faults)
        shared = {key_of(one) for one in train.values()} & {key_of(one) for one in held.values()}
        return reading.problems(train, held), len(shared) if len(reading.tables(faults)) > 1 else None
    problems = data.open()
    if not problems.given:
        raise DataError("preference rows", "data that have prompts only", "data.type=preferences, or hub-preferences")
    return problems, None
