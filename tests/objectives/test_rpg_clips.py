"""RPG's forms under every clip, point by point: what each sample's gradient is, and where it is exactly zero."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from klimb.batch import Batch
from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.objectives import RPG
from tests.objectives.kit import CLIPS, outputs

RATIOS = (1e-3, 0.79, 0.8, 0.81, 1.0, 1.27, 1.28, 1.29, 1.5, 5.0, 9.99, 10.0, 10.01, 1e4)
POINTS = list(product(RATIOS, (2.0, 0.01, 0.0, -0.01, -2.0), (0.5, 1.0, 3.0)))  # w, A, u
BETA, LOW, HIGH, C, CAP = 0.3, 0.2, 0.28, 10.0, 4.0


def wide(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def samples() -> tuple[Batch, Tensor]:
    """One answer of one token for each point, and the log-probs of the policy there."""
    w, a, u = (wide(list(column)) for column in zip(*POINTS, strict=True))
    one, count = torch.ones_like(w), len(POINTS)
    row, old = torch.arange(count), torch.full((count,), -1.5, dtype=torch.float64)
    return Batch(
        tokens=row, row=row, group=torch.zeros(count, dtype=torch.int64), prompts=(row[:1],), learn=one > 0,
        reward=a, scored=one > 0, truncated=one < 0, advantage=a, old=old, ref=old + u.log(), weight=one,
    ), (old + w.log()).requires_grad_()  # fmt: skip


def force(divergence: str, w: float, u: float) -> float:
    """K of Tables 1, 2 and 4, with the reference's weight u; one at u = 1."""
    gap = math.log(w / u)
    return {
        "fkl": u, "rkl": -w * (gap + 1), "ufkl": u - w, "urkl": -w * gap, "jeffreys": u - w * (gap + 1)
    }[divergence]  # fmt: skip


def lives(sign: float, w: float) -> bool:
    """The dual clip's regions."""
    return w < 1 + HIGH if sign >= 0 else 1 - LOW < w < C


def weight(divergence: str, clip: str, kl: str, point: tuple[float, float, float]) -> float:
    """What grad log pi of this sample is weighed by."""
    w, a, u = point
    pull = BETA * force(divergence, w, u)
    inner = w * a + (pull if kl == "inside" else 0.0)
    if clip == "cispo":
        inner *= min(w, CAP) / w
    elif clip != "none" and not lives(a if clip == "dual" else inner, w):
        inner = 0.0
    return inner + (pull if kl == "outside" else 0.0)


@pytest.mark.parametrize("divergence", ["fkl", "rkl", "ufkl", "urkl", "jeffreys"])
@pytest.mark.parametrize(("form", "clip", "kl"), [*CLIPS, ("differentiable", "none", ""), ("reinforce", "none", "")])
def test_every_sample_has_the_stated_gradient(divergence: str, form: str, clip: str, kl: str) -> None:
    settings = {"divergence": divergence, "form": form, "clip": clip, "kl": kl or "by_form", "cap": CAP, "beta": BETA}
    objective = RPG.model_validate(settings | {"reference": "initial"})
    batch, logp = samples()
    terms = objective.loss(outputs(logp), batch)
    (gradient,) = torch.autograd.grad(terms.loss, logp)
    # At a bound the exponential of a logarithm may fall on either side of it: the ratio as it was computed decides.
    ratios = (logp.detach() - batch.old).exp().tolist()  # type: ignore[operator]
    at = [(w, a, u) for w, (_, a, u) in zip(ratios, POINTS, strict=True)]
    expected = [-weight(divergence, clip, kl or "outside", point) for point in at]
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    if kl == "inside" and clip != "cispo":
        dead = wide(expected) == 0
        assert dead.sum() > 20
        assert (gradient[dead] == 0).all(), "exactly zero, the KL's pull included"
    if clip == "rpg":
        cut = [weight(divergence, "none", kl, point) != weight(divergence, clip, kl, point) for point in at]
        assert float(terms.metrics["policy/clip_share"]) == sum(cut)


REFUSED = [
    ({"clip": "none", "kl": "inside"}, "kl=inside"),
    ({"clip": "none", "kl": "outside"}, "kl=outside"),
    ({"form": "differentiable", "clip": "cispo", "kl": "inside"}, "form=reinforce, or kl=outside"),
    ({"reference": "refreshed"}, "refresh.every=10"),
    ({"refresh": {"every": 3}}, "reference=refreshed"),
    ({"control": {"target": 0.1}}, "reference=initial"),
    ({"control": {"target": 0.1}, "reference": "initial", "beta": 0.0}, "a beta above 0"),
]
TAKEN = [
    {"form": "differentiable", "clip": "cispo"},
    {"form": "reinforce", "clip": "cispo", "kl": "inside"},
    {"reference": "refreshed", "refresh": {"kappa": 0.1}, "control": {"target": 0.1}},
]


@pytest.mark.parametrize(("settings", "text"), REFUSED, ids=str)
def test_what_makes_no_sense_together_is_refused_with_a_cure(settings: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(RPG, settings)
    assert len(caught.value.faults) == 1
    assert text in str(caught.value)


@pytest.mark.parametrize("settings", TAKEN, ids=str)
def test_what_makes_sense_is_taken(settings: dict[str, object]) -> None:
    assert resolve(RPG, settings).model_dump(exclude_unset=True) == settings


def test_only_a_kept_reference_has_something_to_carry() -> None:
    steered = {"reference": "refreshed", "refresh": {"every": 2}, "control": {"target": 0.1}, "beta": 0.2}
    carried = resolve(RPG, steered).carried
    assert carried.beta == 0.2
    assert carried.control is not None and carried.control.target == 0.1
    assert carried.refresh is not None and carried.refresh.every == 2
    assert (RPG().carried.control, RPG().carried.refresh) == (None, None)


def test_a_steered_coefficient_replaces_beta() -> None:
    batch, logp = samples()
    steered, plain = (RPG(reference="initial", beta=beta) for beta in (0.1, 0.7))
    found = steered.loss(outputs(logp), batch.replace(carried={"kl_coefficient": 0.7}))
    assert float(found.loss.detach()) == float(plain.loss(outputs(logp), batch).loss.detach())


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"beta": 0.0}, "none"),
        ({"beta": 0.1, "clip": "none"}, "loss"),
        ({"beta": 0.1, "clip": "rpg", "form": "reinforce"}, "clip"),
        ({"beta": 0.1, "clip": "rpg", "form": "reinforce", "kl": "outside"}, "loss"),
        ({"beta": 0.1, "clip": "rpg", "form": "differentiable"}, "loss"),
        ({"beta": 0.1, "clip": "rpg", "form": "differentiable", "kl": "inside"}, "clip"),
    ],
    ids=str,
)
def test_where_the_kl_stands(settings: dict[str, object], place: str) -> None:
    assert resolve(RPG, settings).kl_place == place
