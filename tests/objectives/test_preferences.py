"""Objectives on given answers: exact gradients, parts that add up, and what a wrong batch is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from klimb.batch import Batch
from klimb.objectives import (
    CDPO,
    DPO,
    IPO,
    KTO,
    ORPO,
    SFT,
    AnyPreference,
    BradleyTerry,
    DPONorm,
    Hinge,
    HyPO,
    Objective,
    RobustDPO,
    SimPO,
)
from klimb.proving.expected import exactly
from klimb.proving.samples import moved, outputs
from klimb.types import Label

PAIRED: tuple[Objective, ...] = (
    DPO(), DPO(nll=0.5), CDPO(), RobustDPO(), IPO(), IPO(lengths="mean"), Hinge(), DPONorm(), SimPO(), ORPO(),
    HyPO(kl_weight=0.0), HyPO(), HyPO(estimator="reward_to_go"),
)  # fmt: skip
C, R, FRESH, OTHER = Label.CHOSEN, Label.REJECTED, Label.FRESH, Label.MISMATCHED


def batch(*kinds: tuple[Label, ...], seed: int = 0) -> Batch:
    """Groups of rows with these labels, of one to four tokens, float64, with old and reference log-probs."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.tensor([int(kind) for group in kinds for kind in group])
    group = torch.tensor([index for index, rows in enumerate(kinds) for _ in rows])
    row = torch.repeat_interleave(torch.arange(len(group)), torch.randint(1, 5, (len(group),), generator=draw))
    old = -torch.rand(len(row), generator=draw, dtype=torch.float64) * 3 - 0.01
    none = torch.zeros(len(group), dtype=torch.bool)
    return Batch(
        tokens=torch.zeros(len(row), dtype=torch.int64),
        row=row,
        group=group,
        prompts=tuple(torch.zeros(2, dtype=torch.int64) for _ in kinds),
        learn=torch.ones(len(row), dtype=torch.bool),
        reward=torch.zeros(len(group)),
        scored=none,
        truncated=none,
        old=old,
        ref=old + torch.randn(len(row), generator=draw, dtype=torch.float64) * 0.5,
        label=label,
    )


def ready(objective: Objective, whole: Batch) -> Batch:
    whole = objective.advantage(whole)
    return whole.replace(weight=exactly(objective.weighting(whole)))


def update(objective: Objective, part: Batch, logp: Tensor) -> tuple[float, dict[str, float], Tensor]:
    terms = objective.loss(outputs(logp), part)
    (gradient,) = torch.autograd.grad(terms.loss, logp)
    return float(terms.loss.detach()), {name: float(value) for name, value in terms.metrics.items()}, gradient


MIXED = batch((C, R), (C, R), (FRESH, FRESH, FRESH), (C, R), (FRESH, FRESH))


@pytest.mark.parametrize("objective", PAIRED, ids=repr)
def test_parts_add_up(objective: Objective) -> None:
    whole = ready(objective, MIXED)
    whole = whole.take(torch.nonzero(objective.live(whole)).flatten())
    logp = moved(whole)
    loss, metrics, gradient = update(objective, whole, logp)
    parts = list(whole.split(9))
    assert len(parts) > 1 and sum(part.rows for part in parts) == whole.rows
    place, losses, sums = 0, 0.0, dict.fromkeys(metrics, 0.0)
    for part in parts:
        piece = logp.detach()[place : place + len(part.row)].requires_grad_()
        one, told, slope = update(objective, part, piece)
        assert torch.allclose(slope, gradient[place : place + len(part.row)], atol=1e-12)
        losses, place = losses + one, place + len(part.row)
        sums = {name: sums[name] + told[name] for name in sums}
    assert losses == pytest.approx(loss) and sums == pytest.approx(metrics)
    assert float(whole.weight.sum()) == pytest.approx(1.0)  # type: ignore[union-attr]


def test_hypo_without_a_weight_is_dpo_to_the_last_bit() -> None:
    ours, theirs = HyPO(kl_weight=0.0), DPO()
    one, two = (ready(objective, MIXED) for objective in (ours, theirs))
    found, wanted = (update(o, part, moved(MIXED)) for o, part in ((ours, one), (theirs, two)))
    assert torch.equal(found[2], wanted[2]) and found[:2] == wanted[:2]
    assert not ours.live(one)[MIXED.label == FRESH].any()  # type: ignore[index]


def test_dpo_is_its_formula_on_summed_tokens() -> None:
    whole = ready(DPO(), batch((C, R), (C, R), seed=3))
    logp = moved(whole)
    ratio = torch.zeros(4, dtype=torch.float64).index_add(0, whole.row, (logp - whole.ref).detach())  # type: ignore[operator]
    wanted = -torch.nn.functional.logsigmoid(0.1 * (ratio[[0, 2]] - ratio[[1, 3]])).mean()
    loss, metrics, _ = update(DPO(), whole, logp)
    assert loss == pytest.approx(float(wanted))
    assert metrics["preference/gap"] == pytest.approx(float((ratio[[0, 2]] - ratio[[1, 3]]).mean()))


def test_at_the_start_a_pair_is_a_tie_and_the_divergence_has_no_gradient() -> None:
    whole = ready(HyPO(kl_weight=7.0), MIXED.replace(ref=MIXED.old))
    assert MIXED.old is not None
    _, metrics, gradient = update(HyPO(kl_weight=7.0), whole, MIXED.old.clone().requires_grad_())
    fresh = (MIXED.label == FRESH)[MIXED.row]  # type: ignore[index]
    assert metrics["preference/accuracy"] == pytest.approx(0.5) and metrics["policy/kl_ref"] == 0.0
    assert torch.equal(gradient[fresh], torch.zeros_like(gradient[fresh])) and bool((gradient[~fresh] != 0).all())


def test_kto_measures_its_point_on_mismatched_rows_and_moves_both_ways() -> None:
    objective = KTO(beta=0.5, desirable=2.0)
    whole = ready(objective, batch((C,), (R,), (C, R), (OTHER,), (OTHER,)))
    assert whole.old is not None and whole.ref is not None and whole.advantage is not None
    rows = torch.zeros(6, dtype=torch.float64).index_add(0, whole.row, whole.old - whole.ref)
    assert float(whole.advantage[0]) == pytest.approx(max(0.0, float(rows[4:].mean())))
    assert objective.live(whole).tolist() == [True] * 4 + [False] * 2
    _, _, gradient = update(objective, whole, moved(whole))
    good = ((whole.label == C)[whole.row], (whole.label == R)[whole.row])  # type: ignore[index]
    assert bool((gradient[good[0]] < 0).all()) and bool((gradient[good[1]] > 0).all())
    alone = objective.advantage(batch((C,), (R,)))
    assert alone.advantage is not None and not alone.advantage.any()


@pytest.mark.parametrize("average", ["token", "row"])
def test_supervision_is_the_mean_log_likelihood(average: Any) -> None:
    objective = SFT(average=average)
    whole = ready(objective, batch((C,), (C,), (C,)))
    logp = moved(whole)
    means = [float(logp.detach()[whole.row == row].mean()) for row in range(3)]
    wanted = -float(logp.detach().mean()) if average == "token" else -sum(means) / 3
    assert update(objective, whole, logp)[0] == pytest.approx(wanted)
    assert objective.live(whole).all() and objective.needs == {"answers"}


def test_a_batch_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="no `label`"):
        DPO().weighting(MIXED.replace(label=None))
    torn = batch((C,), (R,))
    with pytest.raises(ValueError, match="as many chosen rows"):
        DPO().loss(outputs(moved(torn)), torn)


def test_every_preference_objective_is_settings_and_back() -> None:
    for objective in (*PAIRED, KTO(), SFT(), BradleyTerry()):
        again: Objective = TypeAdapter(AnyPreference).validate_json(objective.model_dump_json())
        assert again == objective
        assert again.needs and (again.refers or not isinstance(again, DPO))
    assert HyPO().minimum_group == 2 and KTO().reads_old and KTO().needs == {"labels"}


@pytest.mark.parametrize(("margin", "known"), [(0.0, True), (0.5, True), (0.5, False)])
def test_a_reward_model_reads_the_last_token_of_each_answer(margin: float, known: bool) -> None:
    objective = BradleyTerry(margin=margin, centring=0.25)
    whole = batch((C, R), (C, R), seed=5).replace(reward=torch.tensor([3.0, 1.0, 2.0, 2.0], dtype=torch.float64))
    whole = ready(objective, whole.replace(scored=torch.full((4,), known)))
    value = torch.randn(len(whole.row), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value = value.requires_grad_()
    found = objective.loss(outputs(torch.zeros_like(value), value), whole)
    last = [int(torch.nonzero(whole.row == row)[-1]) for row in range(4)]
    r = value.detach()[last]
    gap = r[[0, 2]] - r[[1, 3]] - (margin * torch.tensor([2.0, 0.0]) if known else 0.0)
    wanted = -torch.nn.functional.logsigmoid(gap) + 0.25 * (r[[0, 2]] + r[[1, 3]]).square()
    assert float(found.loss.detach()) == pytest.approx(float(wanted.mean()))
    (gradient,) = torch.autograd.grad(found.loss, value)
    assert torch.nonzero(gradient).flatten().tolist() == last
    assert objective.critic and not objective.refers
