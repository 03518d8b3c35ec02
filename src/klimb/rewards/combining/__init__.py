"""Ways of making one reward of several sources: each a file, and the union of them all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.rewards.combining.agreement import Agreement
from klimb.rewards.combining.ensemble import Least, Mean, Uncertain
from klimb.rewards.combining.gated import Gated
from klimb.rewards.combining.gdpo import Gdpo
from klimb.rewards.combining.normalised import Normalised
from klimb.rewards.combining.scheduled import Scheduled
from klimb.rewards.combining.selected import Selected
from klimb.rewards.combining.selected_paper import SelectedPaper
from klimb.rewards.combining.weighted import Weighted

Sums = Weighted | Scheduled | Normalised | Gdpo | Gated
Ensembles = Mean | Least | Uncertain | Agreement
AnyCombining = Annotated[Sums | Ensembles | Selected | SelectedPaper, Field(discriminator="type")]
