"""A selector from a user's own file: `{type: custom, path: mine.py:keep, settings: {...}}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from klimb import userfile
from klimb.errors import KlimbError, SettingsError
from klimb.selection.base import EntropyOf, Selector

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import TokenMask, TokenRows


class Custom(Selector):
    """`fn(batch, **settings)` in a Python file gives a mask (t) of the tokens to keep, of those that learn."""

    type: Literal["custom"] = "custom"
    path: str
    """FILE.py:fn, the file relative to the working directory; it is run when the settings are read."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """What the function is called with beside the batch."""
    entropy: EntropyOf | None = None
    """Whose entropy `batch.entropy` must hold; null = the function reads none, and none is asked for."""
    _call: Callable[..., Any] = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Loads the function, so that a fault in its file is a fault of the settings."""
        self._call = load(self.path)

    @property
    def ranks_by(self) -> EntropyOf | None:
        return self.entropy

    def keep(self, batch: Batch, parts: TokenRows | None = None) -> TokenMask:
        import torch

        try:
            found = self._call(batch, **self.settings)
        except Exception as error:
            bare = ", and batch.entropy is None: selector.entropy is null" if batch.entropy is None else ""
            raise self._broken(f"{type(error).__name__}: {error}{bare}") from error
        if not (isinstance(found, torch.Tensor) and found.dtype == torch.bool and found.shape == batch.learn.shape):
            shape = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
            raise self._broken(f"{shape}, where a mask of {batch.learn.numel()} booleans is wanted")
        return found & batch.learn

    def _broken(self, found: str) -> SettingsError:
        cure = "return a torch.bool tensor with an entry for each of batch.tokens"
        return SettingsError([KlimbError(f"select tokens by selector.path={self.path}", found, cure)])


def load(path: str) -> Callable[..., Any]:
    """The function `FILE.py:fn`. Raises ValueError that says what was found and what to do."""
    file, _, name = path.rpartition(":")
    if not Path(file).is_file():
        raise _fault(path, f"no file {file or path!r}", "path=mine.py:keep, relative to where klimb is started")
    try:
        found = getattr(userfile.run(file), name, None)
    except Exception as error:
        raise _fault(path, f"{type(error).__name__}: {error}", f"make `python {file}` run") from error
    if not callable(found):
        raise _fault(path, f"{name!r} is {type(found).__name__}", "name a function of the file")
    function: Callable[..., Any] = found
    return function


def _fault(path: str, found: str, cure: str) -> ValueError:
    return ValueError(KlimbError(f"selector.path={path} cannot be used", found, cure).line())
