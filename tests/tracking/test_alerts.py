"""Alerts: each rule on a history that trips it and on one that does not; each says its line once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.recipe import Recipe
from klimb.tracking.alerts import Alert, AnyAlert
from klimb.tracking.watching import Watcher
from tests.selection.test_known_bugs import ROOT


def rule(**settings: Any) -> Alert:
    found: Alert = TypeAdapter(AnyAlert).validate_python(settings)
    return found


def lines(name: str, *values: float | None) -> list[dict[str, Any]]:
    return [{"step": step, **({} if value is None else {name: value})} for step, value in enumerate(values)]


def exams(*pairs: tuple[float, float | None]) -> list[dict[str, Any]]:
    """Lines with a reward, some of which have a held-out accuracy."""
    made = [{"step": 0, "eval/accuracy": 0.2}]
    for step, (reward, accuracy) in enumerate(pairs, 1):
        made.append({"step": step, "reward/mean": reward, **({} if accuracy is None else {"eval/accuracy": accuracy})})
    return made


def judged(*pairs: tuple[float, float]) -> list[dict[str, Any]]:
    """Lines with a reward and the score of a held-out source."""
    return [{"step": step, "reward/mean": one, "reward/judge": other} for step, (one, other) in enumerate(pairs)]


HACKED = {"type": "hacked", "source": "judge", "window": 2, "drop": 0.1}
CALM_KL = (0.001, 0.002, 0.001, 0.002)
TRIPS = [
    ({"type": "metric", "metric": "loss", "above": 2.0}, lines("loss", 1.0, 2.5), "loss is 2.5, above 2"),
    ({"type": "metric", "metric": "loss", "below": 0.0, "steps": 2}, lines("loss", 1.0, -1.0, None, -2.0)[:2], None),
    ({"type": "metric", "metric": "loss", "below": 0.0, "steps": 2}, lines("loss", 1, -1, None, -2), "for 2 steps"),
    ({"type": "metric", "metric": "loss", "above": 2.0}, lines("loss", 2.5, None), None),
    ({"type": "metric", "metric": "loss", "above": 2.0, "below": 1.0}, lines("loss", 1.5), None),
    ({"type": "entropy-collapse"}, lines("policy/entropy", None, 2.0, 0.1, 0.1, 0.1), "and was 2"),
    ({"type": "entropy-collapse"}, lines("policy/entropy", 2.0, 0.1, 0.3, 0.1), None),
    ({"type": "kl-spike"}, lines("policy/kl_old", *CALM_KL, 0.2), "its median was 0.0015"),
    ({"type": "kl-spike"}, lines("policy/kl_old", *CALM_KL, 0.009), None),
    ({"type": "kl-spike"}, lines("policy/kl_old", 0.001, 0.001, 0.9), None),
    ({"type": "kl-spike", "metric": "policy/kl_ref"}, lines("policy/kl_old", *CALM_KL, 0.2), None),
    ({"type": "degenerate"}, lines("group/degenerate", 0.5, 1.0, 1.0, 1.0), "every group is without a signal"),
    ({"type": "degenerate"}, lines("group/degenerate", 1.0, 0.9, 1.0), None),
    ({"type": "truncation"}, lines("length/truncated", 0.6, 0.7, 0.8), "80% of the completions"),
    ({"type": "truncation"}, lines("length/truncated", 0.6, 0.5, 0.8), None),
    ({"type": "overoptimised"}, exams((0.1, None), (0.2, 0.5), (0.4, None), (0.5, 0.3)), "0.15 to 0.45"),
    ({"type": "overoptimised"}, exams((0.1, None), (0.2, 0.5), (0.4, None), (0.5, 0.46)), None),
    ({"type": "overoptimised"}, exams((0.3, None), (0.4, 0.5), (0.3, None), (0.2, 0.3)), None),
    ({"type": "overoptimised"}, exams((0.1, None), (0.2, 0.5), (0.4, None)), None),
    ({"type": "overoptimised"}, exams((0.1, None), (0.5, 0.1)), "0.1 to 0.3"),
    ({"type": "overoptimised"}, exams(), None),
    (HACKED, judged((0.1, 0.5), (0.2, 0.7), (0.3, 0.2), (0.4, 0.4)), "was 0.6 at step 1, while the reward rose"),
    (HACKED, judged((0.1, 0.5), (0.2, 0.7), (0.1, 0.2), (0.1, 0.4)), None),
    (HACKED, judged((0.1, 0.5), (0.2, 0.7), (0.3, 0.5), (0.4, 0.65)), None),
    (HACKED, judged((0.1, 0.5), (0.2, 0.7), (0.3, 0.2)), None),
    (HACKED | {"steps": 2}, judged((0.1, 0.5), (0.2, 0.7), (0.3, 0.2), (0.4, 0.4)), None),
    (HACKED | {"steps": 2}, judged((0.1, 0.6), (0.2, 0.6), (0.3, 0.4), (0.4, 0.4), (0.5, 0.2)), "for 2 steps"),
]


@pytest.mark.parametrize(("settings", "history", "what"), TRIPS)
def test_a_rule_trips_on_what_it_is_for_and_on_nothing_else(
    settings: dict[str, Any], history: list[dict[str, Any]], what: str | None
) -> None:
    found = rule(**settings).trips(history)
    assert (what in found) if what else (found == "")


@pytest.mark.parametrize(
    ("rule", "changes", "word"),
    [
        ({"type": "kl-spike"}, {}, r"policy/kl_old.*one update a batch.*source\.minibatches=2"),
        ({"type": "metric", "metric": "policy/clip_share", "above": 0.3}, {}, "policy/clip_share.*always 0"),
        ({"type": "kl-spike", "metric": "policy/kl_ref"}, {"minibatches": 2}, r"policy/kl_ref.*objective\.beta"),
        ({"type": "kl-spike"}, {"minibatches": 2}, None),
        ({"type": "kl-spike"}, {"epochs": 2}, None),
        ({"type": "metric", "metric": "policy/entropy", "below": 0.1}, {}, None),
    ],
)
def test_a_rule_whose_metric_cannot_move_is_refused(
    root: Path, rule: dict[str, Any], changes: dict[str, int], word: str | None
) -> None:
    recipe = yaml.safe_load((root / "recipes/tiny-dapo.yaml").read_text("utf-8"))
    recipe |= {"alerts": [rule], "source": recipe["source"] | changes}
    if word is None:
        assert len(resolve(Recipe, recipe).alerts) == 1
    else:
        with pytest.raises(SettingsError, match=word):
            resolve(Recipe, recipe)


@pytest.mark.parametrize(
    ("rule", "refused"),
    [
        ({"type": "entropy-collapse", "stop": True}, "policy/entropy"),
        ({"type": "metric", "metric": "policy/entropy_p50", "below": 0.1}, "policy/entropy_p50"),
        ({"type": "kl-spike"}, "policy/kl_old"),
        ({"type": "metric", "metric": "preference/accuracy", "below": 0.1}, ""),
        ({"type": "metric", "metric": "policy/of_my_own", "below": 0.1}, ""),
    ],
)
def test_a_rule_on_a_measure_of_the_policy_is_refused_where_values_alone_are_trained(
    root: Path, rule: dict[str, Any], refused: str
) -> None:
    for name in ("tiny-reward-model", "tiny-sft"):
        recipe = yaml.safe_load((root / f"recipes/{name}.yaml").read_text("utf-8"))
        recipe |= {"alerts": [rule], "source": recipe["source"] | {"epochs": 2}}
        if refused and name == "tiny-reward-model":
            with pytest.raises(SettingsError, match=f"on {refused}\\W.*no log-probs are there"):
                resolve(Recipe, recipe)
        else:
            assert resolve(Recipe, recipe).alerts


def test_a_spike_from_a_reference_that_there_is_can_be_watched(root: Path) -> None:
    recipe = yaml.safe_load((root / "recipes/tiny-grpo-kl.yaml").read_text("utf-8"))
    assert resolve(Recipe, recipe | {"alerts": [{"type": "kl-spike", "metric": "policy/kl_ref"}]}).alerts


@pytest.mark.parametrize("type_", ["entropy-collapse", "kl-spike", "degenerate", "truncation", "overoptimised"])
def test_a_rule_says_nothing_of_an_empty_history(type_: str) -> None:
    assert rule(type=type_).trips([]) == ""


def watch(one: Alert, history: list[dict[str, Any]], events: list[dict[str, Any]]) -> tuple[Watcher, list[Any]]:
    told: list[Any] = []
    watcher = Watcher([one], [], events, lambda kind, **fields: told.append((kind, fields)))
    for line in history:
        watcher.observe(line["step"], line)
    return watcher, told


def test_an_alert_is_told_once_until_it_was_not_true_in_between() -> None:
    _, told = watch(rule(type="metric", metric="loss", above=2.0), lines("loss", 3, 3, 1, 3, 3), [])
    assert [fields["step"] for _, fields in told] == [0, 3]
    kind, fields = told[0]
    assert json.loads(fields.pop("settings"))["above"] == 2.0
    assert kind == "alert"
    assert fields == {"rule": "metric loss", "step": 0, "what": "loss is 3, above 2", "stop": False}


def test_only_a_rule_that_may_stop_the_run_wants_to() -> None:
    quiet, _ = watch(rule(type="metric", metric="loss", above=2.0), lines("loss", 3), [])
    loud, _ = watch(rule(type="metric", metric="loss", above=2.0, stop=True), lines("loss", 3), [])
    assert quiet.halt == ""
    assert loud.halt == "loss is 3, above 2"


def test_after_a_stop_the_rule_counts_its_steps_anew() -> None:
    stopped = [{"kind": "alert", "rule": "metric loss", "step": 1, "stop": True}]
    one = rule(type="metric", metric="loss", above=2.0, steps=3, stop=True)
    watcher = Watcher([one], lines("loss", 3, 3), stopped, lambda *_, **__: None)
    for step in (2, 3):
        watcher.observe(step, {"loss": 3.0})
        assert watcher.halt == ""
    watcher.observe(4, {"loss": 3.0})
    assert watcher.halt != ""


def test_an_event_of_a_step_that_is_gone_through_again_silences_nothing() -> None:
    """The run was killed after its alert at step 9, and goes on from a checkpoint of step 1."""
    told: list[Any] = []
    one = rule(type="metric", metric="loss", above=2.0, stop=True)
    watch(one, lines("loss", 1, 1, *[3] * 8), [])
    late = [{"kind": "alert", "rule": "metric loss", "step": 9, "stop": True}]
    watcher = Watcher([one], lines("loss", 1, 1), late, lambda kind, **fields: told.append(fields["step"]))
    watcher.observe(2, {"loss": 3.0})
    assert told == [2]
    assert watcher.halt != ""


def test_two_rules_of_one_name_are_told_apart() -> None:
    """The first stopped the run at step 1; the second has not spoken yet, and its two steps are there."""
    first = rule(type="metric", metric="loss", above=2.0, stop=True)
    second = rule(type="metric", metric="loss", above=1.0, steps=2, stop=True)
    before, told = watch(first, lines("loss", 1.5, 3), [])
    assert before.halt != ""
    events = [{"kind": kind, **fields} for kind, fields in told]
    after = Watcher([second], lines("loss", 1.5, 3), events, lambda *_, **__: None)
    after.observe(2, {"loss": 1.5})
    assert "for 2 steps" in after.halt


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        ({"type": "metric", "metric": "loss"}, "neither above nor below; try: above=VALUE"),
        ({"type": "metric", "metric": "policy/entropi", "below": 1}, "try: metric=policy/entropy"),
        ({"type": "metric", "metric": "nothing", "below": 1}, "no such metric"),
        ({"type": "truncation", "share": 2.0}, "share"),
        ({"type": "collapse"}, "entropy-collapse"),
        ({"type": "degenerate", "steps": 0}, "steps"),
    ],
)
def test_a_rule_that_means_nothing_is_one_clear_fault(alert: dict[str, Any], words: str) -> None:
    settings = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text("utf-8"))
    with pytest.raises(SettingsError) as caught:
        resolve(Recipe, settings | {"alerts": [alert]})
    assert words in str(caught.value)
    assert "alerts.0" in str(caught.value)


def test_the_base_has_no_rule() -> None:
    assert Alert(type="none").label == "none"
    with pytest.raises(NotImplementedError):
        Alert(type="none").trips([])
