"""An objective from a user's own file: `{type: custom, path: mine.py:Mine, settings: {...}}`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError

from klimb import userfile
from klimb.errors import KlimbError
from klimb.faults import collect
from klimb.objectives.base import Objective
from klimb.objectives.carried import Carried

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.objectives.critics import ValueModel
    from klimb.shapes import PerToken, RowMask


class Custom(Objective):
    """A subclass of `klimb.objectives.base.Objective` in a Python file; the file is run when the settings are read."""

    type: Literal["custom"] = "custom"
    path: str
    """FILE.py:Class, the file relative to the working directory."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """The settings of that class."""
    _inner: Objective = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Loads the class, so that a fault in it is a fault of the settings."""
        self._inner = load(self.path, self.settings)

    @property
    def inner(self) -> Objective:
        """The user's own objective."""
        return self._inner

    def faults(self) -> list[KlimbError]:
        """What does not fit together in the user's own settings."""
        return list(collect(self._inner, "settings"))

    def idle(self, longest: int) -> list[KlimbError]:
        return self._inner.idle(longest)

    @property
    def needs(self) -> frozenset[str]:
        return self._inner.needs

    @property
    def minimum_group(self) -> int:
        return self._inner.minimum_group

    @property
    def beyond_group(self) -> bool:
        return self._inner.beyond_group

    @property
    def refers(self) -> bool:
        return self._inner.refers

    @property
    def kl_place(self) -> Literal["none", "loss", "clip", "reward"]:
        return self._inner.kl_place

    @property
    def critic(self) -> bool:
        return self._inner.critic

    @property
    def reads_value(self) -> bool:
        return self._inner.reads_value

    @property
    def value_model(self) -> ValueModel | None:
        return self._inner.value_model

    @property
    def reads_logp(self) -> bool:
        return self._inner.reads_logp

    @property
    def reads_divergence(self) -> bool:
        return self._inner.reads_divergence

    @property
    def moves_trunk(self) -> bool:
        return self._inner.moves_trunk

    @property
    def reads_old(self) -> bool:
        return self._inner.reads_old

    @property
    def carried(self) -> Carried:
        return self._inner.carried

    def advantage(self, batch: Batch) -> Batch:
        return self._inner.advantage(batch)

    def weighting(self, batch: Batch) -> PerToken:
        return self._inner.weighting(batch)

    def live(self, batch: Batch) -> RowMask:
        return self._inner.live(batch)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return self._inner.loss(now, batch)


def load(path: str, settings: Mapping[str, Any]) -> Objective:
    """The objective `FILE.py:Class` with these settings. Raises ValueError that says what was found and what to do."""
    file, _, name = path.rpartition(":")
    if not Path(file).is_file():
        raise _fault(path, f"no file {file or path!r}", "path=mine.py:Mine, relative to where klimb is started")
    try:
        found = getattr(userfile.run(file), name, None)
    except Exception as error:
        raise _fault(path, f"{type(error).__name__}: {error}", f"make `python {file}` run") from error
    if not (isinstance(found, type) and issubclass(found, Objective)):
        raise _fault(path, f"{name!r} is {type(found).__name__}", "name a subclass of klimb.objectives.base.Objective")
    try:
        return found(**settings)
    except ValidationError as error:
        places = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise _fault(path, "; ".join(places), "correct objective.settings") from error


def _fault(path: str, found: str, cure: str) -> ValueError:
    return ValueError(KlimbError(f"objective.path={path} cannot be used", found, cure).line())
