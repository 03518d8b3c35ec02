"""TOPR's weights: held within bounds by the sign of the advantage, and constant."""

from __future__ import annotations

import pytest
import torch

from klimb import functional as F
from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.objectives import TOPR


def test_good_answers_weigh_one_and_bad_ones_at_most_one() -> None:
    ratio = torch.tensor([0.2, 3.0, 0.2, 3.0, 0.0], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0])
    found = F.clip.tapered(ratio, advantage, (1.0, 1.0), (0.0, 1.0))
    assert found.tolist() == pytest.approx([1.0, 1.0, 0.2, 1.0, 1.0])
    assert not found.requires_grad
    wide = F.clip.tapered(ratio, advantage, (0.5, 2.0), (0.0, 9.0))
    assert wide.tolist() == pytest.approx([0.5, 2.0, 0.2, 3.0, 0.5])


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(SettingsError, match="a least weight above the largest"):
        resolve(TOPR, {"bad": [1.0, 0.5]})
