"""The benchmark on pairs: klimb's side against lines of transformers, and what the comparison says of two sides."""

from __future__ import annotations

import importlib
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from klimb.policy.base import PolicySettings, TinySizes
from klimb.policy.loading import load


@pytest.fixture
def bench(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(root / "bench")
    return importlib.import_module("dpo_vs_trl")


def two_steps(shift: float = 0.0) -> list[dict[str, float]]:
    return [{"loss": 0.9 + shift, "logp_chosen": -40.0, "logp_rejected": -30.0} for _ in range(2)]


def gradients(folder: Path, scale: float = 1.0) -> None:
    from pairs_agreement import write_gradient  # type: ignore[import-not-found]

    for side, factor in (("trl", 1.0), ("klimb", scale)):
        write_gradient(folder / side / "gradient", "a.weight", torch.tensor([3.0, 4.0]) * factor)


def test_two_sides_agree_by_their_losses_of_two_steps_and_their_gradients(bench: Any, tmp_path: Path) -> None:
    gradients(tmp_path)
    found = bench.agreement([two_steps(), two_steps()], tmp_path)
    names = ("loss", "logp_chosen", "logp_rejected")
    assert {name: found[name] for name in names} == {name: found[f"{name}_second"] for name in names}
    assert found["loss"] == 0.0 and found["gradient"] == 0.0 and found["grad_norm"] == pytest.approx(5.0)
    bench.told(found, exact=True)


@pytest.mark.parametrize(("shift", "scale", "what"), [(0.001, 1.0, "loss, loss_second"), (0.0, 1.001, "gradient")])
def test_a_side_that_differs_by_more_than_a_ten_thousandth_ends_the_benchmark(
    bench: Any, tmp_path: Path, shift: float, scale: float, what: str
) -> None:
    gradients(tmp_path, scale)
    found = bench.agreement([two_steps(), two_steps(shift)], tmp_path)
    with pytest.raises(SystemExit, match=f"{what} above 1e-04"):
        bench.told(found, exact=True)
    bench.told(found, exact=False)


def test_a_loss_of_log_2_on_both_sides_is_no_agreement(bench: Any, tmp_path: Path) -> None:
    gradients(tmp_path)
    trivial = two_steps(0.6931472 - 0.9)
    with pytest.raises(SystemExit, match="the reference is the policy itself"):
        bench.agreement([trivial, trivial], tmp_path)


def summed(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[range(len(answer)), answer].sum()


@pytest.mark.slow
def test_klimbs_two_steps_are_those_of_lines_of_transformers(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(PolicySettings(tiny=TinySizes(hidden=32, context=1024)), 0).save(tmp_path / "model")
    asked = ["--sides", "klimb", "--model", str(tmp_path / "model"), "--steps", "1", "--pairs", "2", "--trl-micro", "2"]
    cut = ["--precision", "float32", "--threads", "1", "--prompt-tokens", "40", "--answer-tokens", "30"]
    monkeypatch.setattr(sys, "argv", ["dpo_vs_trl.py", *asked, *cut])
    args = bench.words()
    with ExitStack() as stack:
        ((first, second),) = bench.compete(args, bench.contestants(args, stack, tmp_path))
    ids = bench.token_ids(bench.job(args, tmp_path), tmp_path / "ids")
    policy, reference = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("model", "reference"))
    for step, rows in ((first, ids[:2]), (second, ids[2:])):
        sides = [
            [[summed(model, row["prompt_ids"], row[f"{side}_ids"]) for row in rows] for side in ("chosen", "rejected")]
            for model in (policy, reference)
        ]
        chosen, rejected = (torch.stack(one) - torch.stack(two) for one, two in zip(*sides, strict=True))
        loss = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean()
        assert step["loss"] == pytest.approx(float(loss.detach()), rel=1e-5) and abs(step["loss"] - 0.6931472) > 1e-3
        assert step["logp_chosen"] == pytest.approx(float(torch.stack(sides[0][0]).mean().detach()), rel=1e-5)
    assert np.fromfile(tmp_path / "klimb/gradient/model.norm.weight", np.float32).any()
