"""LASeR as its paper has it (2410.01735): one choice a batch, minus the training loss, the policy's own states."""

from __future__ import annotations

from typing import Literal

from klimb.bandits import AnyBandit, LinUCB
from klimb.bandits.gains import AnyGain, NegativeLoss
from klimb.rewards.combining.selected import Selected


class SelectedPaper(Selected):
    """`selected` with the paper's settings: no warm-up, alpha 0.1, quantiles of the whole history."""

    type: Literal["selected_paper"] = "selected_paper"  # type: ignore[assignment]
    bandit: AnyBandit = LinUCB(alpha=0.1, warm_up=0)
    gain: AnyGain = NegativeLoss(window=None)
    choice: Literal["group", "batch"] = "batch"
    context: Literal["initial", "current", "none"] = "current"
