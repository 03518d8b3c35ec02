"""What every token selector is: it narrows the learning tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klimb.config import Settings

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import TokenMask


class Selector(Settings):
    """Chooses which of the learning tokens learn."""

    def keep(self, batch: Batch) -> TokenMask:
        """The tokens that learn: a subset of `batch.learn`, decided once on the whole optimizer step."""
        raise NotImplementedError
