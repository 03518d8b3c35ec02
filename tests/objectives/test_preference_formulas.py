"""Each loss on pairs and answers beside its formula in plain numbers, and what is told of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from klimb import functional as F
from klimb.objectives import CDPO, DPO, IPO, KTO, ORPO, DPONorm, Hinge, Objective, RobustDPO, SimPO
from klimb.proving.samples import moved, outputs
from tests.objectives.test_preferences import OTHER, C, R, batch, ready

Rows = list[list[float]]


def rows_of(values: torch.Tensor, row: torch.Tensor) -> Rows:
    return [values[row == index].tolist() for index in range(int(row.max()) + 1)]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def log_s(z: float) -> float:
    return -math.log1p(math.exp(-z))


def odds(row: list[float]) -> float:
    p = math.exp(mean(row))
    return math.log(p / (1 - p))


Formula = Callable[[Rows, Rows, int, int], float]
"""Of the rows' log-probs, their log-ratios to the reference, and which two rows are a pair."""
FORMULAS: list[tuple[Objective, Formula]] = [
    (DPO(beta=0.3), lambda _, x, w, v: -log_s(0.3 * (sum(x[w]) - sum(x[v])))),
    (DPO(beta=0.3, nll=0.7), lambda p, x, w, v: -log_s(0.3 * (sum(x[w]) - sum(x[v]))) - 0.7 * mean(p[w])),
    (
        CDPO(beta=0.3, noise=0.2),
        lambda _, x, w, v: -0.8 * log_s(0.3 * (sum(x[w]) - sum(x[v]))) - 0.2 * log_s(-0.3 * (sum(x[w]) - sum(x[v]))),
    ),
    (
        RobustDPO(beta=0.3, noise=0.2),
        lambda _, x, w, v: (
            (-0.8 * log_s(0.3 * (sum(x[w]) - sum(x[v]))) + 0.2 * log_s(-0.3 * (sum(x[w]) - sum(x[v])))) / 0.6
        ),
    ),
    (IPO(beta=0.3), lambda _, x, w, v: (sum(x[w]) - sum(x[v]) - 1 / 0.6) ** 2),
    (IPO(beta=0.3, lengths="mean"), lambda _, x, w, v: (mean(x[w]) - mean(x[v]) - 1 / 0.6) ** 2),
    (Hinge(beta=0.3), lambda _, x, w, v: max(0.0, 1 - 0.3 * (sum(x[w]) - sum(x[v])))),
    (DPONorm(beta=3.0), lambda _, x, w, v: -log_s(3 * (mean(x[w]) - mean(x[v])))),
    (SimPO(beta=3.0, margin=0.4), lambda p, _, w, v: -log_s(3 * (mean(p[w]) - mean(p[v])) - 1.2)),
    (ORPO(odds=0.4), lambda p, _, w, v: -mean(p[w]) - 0.4 * log_s(odds(p[w]) - odds(p[v]))),
]


@pytest.mark.parametrize(("objective", "formula"), FORMULAS, ids=[repr(one) for one, _ in FORMULAS])
def test_a_loss_on_pairs_is_its_formula_and_its_metrics_are_means_over_pairs(objective: Any, formula: Formula) -> None:
    whole = ready(objective, batch((C, R), (C, R), (C, R), seed=7))
    assert whole.ref is not None
    logp = moved(whole).detach()
    p, x = rows_of(logp, whole.row), rows_of(logp - whole.ref, whole.row)
    assert len({len(row) for row in p}) > 1, "answers of other lengths, so that sums and means differ"
    found = objective.loss(outputs(logp), whole)
    pairs = [(0, 1), (2, 3), (4, 5)]
    assert float(found.loss) == pytest.approx(mean([formula(p, x, w, lose) for w, lose in pairs]), rel=1e-9)
    h = [sum(row) for row in x]
    told = {name: float(value) for name, value in found.metrics.items()}
    assert told == pytest.approx(
        {
            "preference/accuracy": mean([float(h[w] > h[lose]) for w, lose in pairs]),
            "preference/gap": mean([h[w] - h[lose] for w, lose in pairs]),
            "preference/chosen": mean([h[w] for w, _ in pairs]),
            "preference/rejected": mean([h[lose] for _, lose in pairs]),
            "preference/logp_chosen": mean([sum(p[w]) for w, _ in pairs]),
            "preference/logp_rejected": mean([sum(p[lose]) for _, lose in pairs]),
        },
        rel=1e-9,
    )
    assert 0 < told["preference/accuracy"] < 1
    assert objective.needs == {"pairs"}
    assert objective.refers is not isinstance(objective, SimPO | ORPO)


def test_kto_is_its_formula_row_by_row() -> None:
    objective = KTO(beta=0.5, desirable=2.0, undesirable=3.0)
    whole = batch((C,), (R,), (C,), (OTHER,), (OTHER,), seed=2)
    assert whole.ref is not None and whole.old is not None
    whole = ready(objective, whole.replace(old=whole.ref + 0.4))
    logp = moved(whole).detach()
    h = [sum(row) for row in rows_of(logp - whole.ref, whole.row)]
    point = mean([0.4 * len(row) for row in rows_of(logp, whole.row)[3:]])

    def value(row: int, sign: int, weight: float) -> float:
        return weight * (1 - 1 / (1 + math.exp(-sign * 0.5 * (h[row] - point))))

    found = objective.loss(outputs(logp), whole)
    wanted = mean([value(0, 1, 2.0), value(1, -1, 3.0), value(2, 1, 2.0)])
    assert float(found.loss) == pytest.approx(wanted, rel=1e-9)
    right = mean([float(h[0] > point), float(h[1] < point), float(h[2] > point)])
    told = {name: float(one) for name, one in found.metrics.items()}
    assert told == pytest.approx({"preference/accuracy": right, "preference/point": point}, rel=1e-9)


def test_in_a_group_of_three_what_is_to_come_is_compared_with_the_mean_of_the_two_others() -> None:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 1, 4, 2, 2])
    row, group = torch.repeat_interleave(torch.arange(5), lengths), torch.tensor([0, 0, 0, 1, 1])
    x = torch.randn(12, generator=draw, dtype=torch.float64)
    rows = rows_of(x, row)
    found = F.preference.togo_force(x, torch.ones(12, dtype=torch.bool), row, group, 2)
    whole = F.preference.whole_force(x, torch.ones(12, dtype=torch.bool), row, group, 2)
    ahead = F.preference.ahead_force(x, torch.ones(12, dtype=torch.bool), row, group, 2)
    expected, total, later = [], [], []
    for index, own in enumerate(rows):
        others = [rows[j] for j in range(5) if j != index and group[j] == group[index]]
        expected += [sum(own[k:]) - mean([sum(other[k:]) for other in others]) for k in range(len(own))]
        later += [sum(own[k + 1 :]) - mean([sum(other[k + 1 :]) for other in others]) for k in range(len(own))]
        total += [sum(own) - mean([sum(other) for other in others])] * len(own)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert whole.tolist() == pytest.approx(total, rel=1e-12)
    assert ahead.tolist() == pytest.approx(later, rel=1e-12, abs=1e-15)


def test_of_no_tokens_there_is_no_force() -> None:
    nothing = torch.zeros(0, dtype=torch.float64)
    index, learn = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    for force in F.preference.FORCES.values():
        assert force(nothing, learn, index, index, 0).tolist() == []
