"""Tokens and log-probs of a row that was taken from a log: which of the logged log-probs are those of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from klimb.errors import DataError, ModelError
from klimb.logs.rules import Note, Unusable
from klimb.logs.taking import Taken
from klimb.types import Completion, Finish, Prompt, Transform

if TYPE_CHECKING:
    from klimb.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Done:
    """A row with its tokens and those log-probs that can be believed."""

    taken: Taken
    prompt: Prompt
    completion: Completion


def finished(taken: Taken, model: Policy | None, raw: bool) -> Done:
    """The row with tokens: its own, else the model's, else none. `raw`: log-probs are the model's, untransformed.

    Raises Unusable where logged tokens and text are not of one tokenizer, or the prompt cannot be rendered.
    """
    prompt, tokens, pieces, finish = _tokenised(taken, model)
    logps, rule = _believed(taken, tokens, pieces, raw)
    if rule is not None:
        taken.notes.append(Note.of(taken.row, taken.logged.field, rule, f"{len(taken.logged.values)} log-probs"))
    if not taken.tokens and model is not None and not logps and finish is Finish.EOS:
        taken.notes.append(Note.of(taken.row, "completion", "added-end", "a text without its end token"))
    return Done(taken, prompt, Completion(tokens, logps, taken.text, finish))


def _tokenised(taken: Taken, model: Policy | None) -> tuple[Prompt, tuple[int, ...], Sequence[str], Finish]:
    """The prompt with tokens, the completion's tokens with the text of each, and how it ended."""
    if model is None:
        return taken.prompt, taken.tokens, (), taken.finish
    tokens = taken.tokens or _ids(taken, model)
    try:
        prompt = model.render(taken.prompt, len(tokens))
    except (DataError, ModelError) as error:
        raise Unusable("unrenderable", "prompt", error.found) from error
    if max((*tokens, *prompt.tokens)) >= model.model.get_input_embeddings().weight.shape[0]:
        raise Unusable("text-differs", "tokens", "a token that the tokenizer lacks")
    given = taken.tokens or taken.logged.by_id
    if given and taken.text.strip() not in (model.decode(tokens).strip(), _whole(tokens, model).strip()):
        raise Unusable("text-differs", "tokens", model.decode(tokens)[:60])
    ended = tokens[-1] in model.eos_ids
    finish = Finish.EOS if ended else taken.finish if taken.finish is not Finish.EOS else Finish.STOP
    return prompt, tokens, [_whole((token,), model) for token in tokens], finish


def _ids(taken: Taken, model: Policy) -> tuple[int, ...]:
    """The text's tokens; the end token after them where it ended by itself, unless the log-probs say otherwise."""
    if taken.logged.by_id:
        return taken.logged.by_id
    tokens: list[int] = model.tokenizer(taken.text, add_special_tokens=False)["input_ids"]
    whole = taken.finish is not Finish.LENGTH and len(taken.logged.values) != len(tokens)
    return (*tokens, model.tokenizer.eos_token_id) if whole and model.tokenizer.eos_token_id is not None else (*tokens,)


def _whole(tokens: Sequence[int], model: Policy) -> str:
    return str(model.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _believed(
    taken: Taken, tokens: Sequence[int], pieces: Sequence[str], raw: bool
) -> tuple[tuple[float, ...], str | None]:
    """The log-probs, or none and the rule that leaves them out."""
    given, transform = taken.logged, taken.transform
    rule = None
    if not given.values:
        return (), None
    if not tokens:
        rule = "logps-no-tokens"
    elif len(given.values) != len(tokens):
        rule = "logps-count"
    elif given.pieces is not None and not taken.tokens and not _same(given.pieces, tokens, pieces):
        rule = "logps-other-tokens"
    elif not transform.known:
        rule = "logps-transform"
    elif transform.temperature == 0:
        rule = "logps-greedy"
    elif raw and transform != Transform():
        rule = "logps-of-model"
    return ((), rule) if rule else (given.values, None)


def _same(logged: Sequence[str | int], tokens: Sequence[int], pieces: Sequence[str]) -> bool:
    """Whether each logged piece is the token; a part of a letter is shown differently by different servers."""
    pairs = zip(logged, tokens, pieces or [""] * len(tokens), strict=True)
    return all(one == (token if isinstance(one, int) else piece) or "\ufffd" in piece for one, token, piece in pairs)


def without_logps(done: Done) -> bool:
    """Whether the row has tokens, and no log-probs of its behaviour."""
    return bool(done.completion.tokens) and not done.completion.logps


def estimated(done: Done, logps: Sequence[float], name: str) -> Done:
    """The row with log-probs that a model was asked for afterwards."""
    return replace(done, completion=replace(done.completion, logps=tuple(logps), estimated=name))
