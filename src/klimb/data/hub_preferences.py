"""Preference data from a data set on the Hugging Face hub, by the `datasets` package (an extra)."""

from __future__ import annotations

from typing import Literal

from klimb.data.faulty import Faults
from klimb.data.hub import HubSet
from klimb.data.preferences import Numbered, PreferenceRows


class HubPreferences(HubSet, PreferenceRows):
    """Reads preference rows from one split of a data set; holds out another one, or else a share of the prompts."""

    type: Literal["hub-preferences"] = "hub-preferences"

    def tables(self, faults: Faults) -> list[tuple[str, Numbered]]:
        return [*self.splits()]
