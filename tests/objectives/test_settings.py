"""The settings of objectives and selectors: defaults, bounds, and no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from klimb.objectives import (
    CISPO,
    DAPO,
    GRPO,
    GSPO,
    PPO,
    RLOO,
    RPG,
    AnyObjective,
    DrGRPO,
    GSPOToken,
    Objective,
    Reinforce,
    ReinforcePP,
    ReinforcePPBaseline,
)
from klimb.selection import AnySelector, Every
from tests.objectives.kit import batch, changed

NEVER = {"every": 0, "kappa": 0.0, "decay": 0.9}
FIXED = {"target": 0.0, "gain": 0.1, "limit": 0.2, "span": 1000.0}


def kl(where: str, estimator: str) -> dict[str, object]:
    """No KL, but this one where beta is not zero."""
    how = {"where": where, "estimator": estimator, "weighted": "none", "control": FIXED, "refresh": NEVER}
    return {"beta": 0.0, "kl": how}


PAPERS = [
    (Reinforce(), {"baseline": "group", "level": "token", "decay": 0.9, **kl("reward", "k1")}),
    (RLOO(), kl("reward", "k1")),
    (PPO(), {"eps_low": 0.2, "eps_high": 0.2, "gamma": 1.0, "lam": 0.95, "whiten": True, "value_weight": 0.1,
             "value_clip": 0.2, "value": {"type": "head"}, "trunk": True, **kl("reward", "k1")}),
    (GRPO(), {"eps_low": 0.2, "eps_high": 0.2, **kl("loss", "k3")}),
    (DrGRPO(length=3), {"length": 3, "eps_low": 0.2, "eps_high": 0.2, **kl("loss", "k3")}),
    (DAPO(), {"eps_low": 0.2, "eps_high": 0.28, "length": 1024, "buffer": 0, "penalty": 1.0, **kl("loss", "k3")}),
    (GSPO(), {"eps_low": 3e-4, "eps_high": 4e-4, **kl("loss", "k3")}),
    (GSPOToken(), {"eps_low": 3e-4, "eps_high": 4e-4, **kl("loss", "k3")}),
    (CISPO(), {"cap": 5.0, **kl("loss", "k3")}),
    (ReinforcePP(), {"eps_low": 0.2, "eps_high": 0.2, **kl("reward", "k1")}),
    (ReinforcePPBaseline(), {"eps_low": 0.2, "eps_high": 0.2, **kl("loss", "k2")}),
    (RPG(), {"eps_low": 0.2, "eps_high": 0.28, "c": 10.0, "beta": 1e-4, "divergence": "urkl", "form": "reinforce",
             "reference": "old", "clip": "rpg", "level": "token", "kl": "by_form", "cap": 5.0, "control": FIXED,
             "refresh": NEVER}),
]  # fmt: skip
LOWEST: dict[str, float] = {
    "eps_low": 0.0,
    "eps_high": 0.0,
    "c": 1.0,
    "cap": 1.0,
    "beta": -1e-9,
    "length": 0,
    "buffer": -1,
    "penalty": -1e-9,
    "gamma": -1e-9,
    "lam": -1e-9,
    "value_weight": 0.0,
    "value_clip": 0.0,
}
ALLOWED: dict[str, float | None] = {
    "eps_low": 1.0,
    "eps_high": 1e-9,
    "c": 1.001,
    "cap": 1.001,
    "beta": 0.0,
    "length": 1,
    "buffer": 0,
    "penalty": 0.0,
    "gamma": 0.0,
    "lam": 0.0,
    "value_weight": 1e-9,
    "value_clip": None,
}


@pytest.mark.parametrize(("objective", "defaults"), PAPERS, ids=lambda value: type(value).__name__)
def test_the_defaults_are_those_of_the_papers(objective: Objective, defaults: dict[str, object]) -> None:
    assert not objective.allow_bias
    assert objective.model_dump(exclude={"type", "allow_bias"}) == defaults


@pytest.mark.parametrize("objective", [objective for objective, _ in PAPERS], ids=lambda value: type(value).__name__)
def test_settings_out_of_bounds_are_refused_and_those_at_the_bound_are_not(objective: Objective) -> None:
    settings = objective.model_dump()
    for name in set(settings) & set(LOWEST):
        with pytest.raises(ValidationError, match=name):
            changed(objective, **{name: LOWEST[name]})
        assert getattr(changed(objective, **{name: ALLOWED[name]}), name) == ALLOWED[name]
    if "eps_low" in settings:
        with pytest.raises(ValidationError, match="eps_low"):
            changed(objective, eps_low=1.001)
    with pytest.raises(ValidationError):
        TypeAdapter(AnyObjective).validate_python(settings | {"type": settings["type"] + "x"})


def test_settings_are_read_without_importing_torch() -> None:
    code = (
        "import sys; from pydantic import TypeAdapter; from klimb.objectives import AnyObjective;"
        "from klimb.selection import AnySelector;"
        "TypeAdapter(AnyObjective).validate_python({'type': 'rpg'});"
        "TypeAdapter(AnySelector).validate_python({'type': 'every'});"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_selector_every_keeps_what_learns() -> None:
    selector = TypeAdapter(AnySelector).validate_python({"type": "every"})
    assert selector == Every()
    whole = batch(1)
    assert torch.equal(selector.keep(whole), whole.learn)
