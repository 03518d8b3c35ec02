"""Every learning token learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb.selection.base import Selector

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import TokenMask


class Every(Selector):
    """No selection: all learning tokens."""

    type: Literal["every"] = "every"

    def keep(self, batch: Batch) -> TokenMask:
        return batch.learn
