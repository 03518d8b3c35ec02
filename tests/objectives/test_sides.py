"""Where the clip cut: told by the side of the ratio and the sign of the advantage."""

from __future__ import annotations

import pytest

from klimb.objectives import GRPO
from tests.objectives.kit import batch, ready, update

SIDES = ("above_good", "above_bad", "below_good", "below_bad")


@pytest.mark.parametrize(("gap", "side"), [(1.0, "above_good"), (-1.0, "below_bad")])
def test_what_the_clip_cut_is_told_by_side_and_sign(gap: float, side: str) -> None:
    whole = ready(GRPO(), batch(31, prompts=6))
    assert whole.old is not None and whole.weight is not None and whole.advantage is not None
    told, _ = update(GRPO(), whole, (whole.old + gap).requires_grad_())
    cut = float(whole.weight[whole.advantage * gap > 0].sum())
    assert {name: told[f"policy/clip_{name}"] for name in SIDES} == pytest.approx(
        {name: cut if name == side else 0.0 for name in SIDES}, rel=1e-6
    )
    assert told["policy/clip_share"] == pytest.approx(cut, rel=1e-6) and cut > 0


def test_nothing_is_told_where_nothing_was_cut() -> None:
    whole = ready(GRPO(), batch(31, prompts=6))
    assert whole.old is not None
    told, _ = update(GRPO(), whole, whole.old.clone().requires_grad_())
    assert [told[f"policy/clip_{name}"] for name in SIDES] == [0.0] * 4
