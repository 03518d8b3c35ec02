"""Every learning token learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb.selection.base import Selector

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import TokenMask, TokenRows


class Every(Selector):
    """No selection: all learning tokens; `normaliser` changes nothing."""

    type: Literal["every"] = "every"

    @property
    def narrows(self) -> bool:
        return False

    def keep(self, batch: Batch, parts: TokenRows | None = None) -> TokenMask:
        return batch.learn
