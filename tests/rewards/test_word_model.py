"""Word models: the formula, the fit against another solver, folds by prompt, the file, and the two sources."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from klimb.errors import DataError, RewardError
from klimb.evaluation.opinions import Pair, opinions
from klimb.rewards.refusal import Refusal
from klimb.rewards.word_fitting import Example, Fit, crossed, fit
from klimb.rewards.word_model import WordModelReward
from klimb.rewards.words import WordModel, grams, load, sigmoid
from klimb.types import Outcome, Prompt
from tests.rewards.words import said

YES = ("Sure, here is how", "Use the command", "Here is the way to do it", "You can use this", "Sure, you can")
NO = ("I cannot help", "I can't do this", "Sorry, I cannot", "I'm sorry, but no", "It is wrong, I cannot")
MODEL = WordModel("labels", -0.5, {"i": 1.0, "^ i": 2.0, "cannot": 0.5})


def labelled() -> list[Example]:
    texts = [(text, False) for text in YES] + [(text, True) for text in NO]
    return [Example(f"p{n % 5}", text, label) for n, (text, label) in enumerate(texts)]


def written(path: Path, model: WordModel = MODEL) -> Path:
    path.write_text(json.dumps(model.record()), "utf-8")
    return path


def test_a_score_is_the_sum_of_weights_over_the_root_of_the_number_of_words_and_pairs() -> None:
    assert grams("I can't. i CAN'T") == {"i", "can't", "^ i", "i can't", "can't i"}
    assert MODEL.score("I cannot") == pytest.approx(-0.5 + 3.5 / math.sqrt(4))  # i, cannot, ^ i, i cannot
    assert MODEL.score("...") == -0.5 and MODEL.probability("...") == pytest.approx(1 / (1 + math.exp(0.5)))
    assert sigmoid(-800.0) == 0.0 and sigmoid(800.0) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.3, 10.0])
def test_the_fit_of_labels_is_that_of_scikit_learn(strength: float) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    examples = labelled()
    model = fit(examples, Fit(strength, least=2))
    names = sorted(model.weights)
    rows = np.array(
        [[(name in (found := grams(one.text))) / math.sqrt(len(found)) for name in names] for one in examples]
    )
    other = linear.LogisticRegression(C=strength, tol=1e-10, max_iter=5000).fit(rows, [one.label for one in examples])
    assert [model.weights[name] for name in names] == pytest.approx(other.coef_[0].tolist(), abs=1e-4)
    assert model.bias == pytest.approx(float(other.intercept_[0]), abs=1e-4)
    assert all(sum(name in grams(one.text) for one in examples) >= 2 for name in names)


def test_the_fit_of_labels_is_at_the_minimum_of_the_logistic_loss() -> None:
    examples = labelled()
    model = fit(examples, Fit(3.0, least=1))
    pulls = [(1 - sigmoid(s)) if one.label else -sigmoid(s) for one in examples for s in [model.score(one.text)]]
    assert sum(pulls) == pytest.approx(0.0, abs=1e-5), "the bias is not held to zero"
    for gram, weight in model.weights.items():
        shares = [(gram in (found := grams(one.text))) / math.sqrt(len(found)) for one in examples]
        assert weight / 3.0 == pytest.approx(sum(p * s for p, s in zip(pulls, shares, strict=True)), abs=1e-5)


def test_the_fit_of_pairs_is_at_the_minimum_of_bradley_terry() -> None:
    pairs = [Example(f"p{n}", no, True, yes) for n, (no, yes) in enumerate(zip(NO, YES, strict=True))]
    model = fit(pairs, Fit(2.0, least=1))
    gaps = [
        {g: (g in a) / math.sqrt(len(a)) - (g in b) / math.sqrt(len(b)) for g in a | b}
        for a, b in ((grams(one.text), grams(one.other or "")) for one in pairs)
    ]
    for gram, weight in model.weights.items():
        pull = sum(gap.get(gram, 0.0) * sigmoid(-sum(model.weights[g] * v for g, v in gap.items())) for gap in gaps)
        assert weight / 2.0 == pytest.approx(pull, abs=1e-5)
    assert (model.kind, model.bias) == ("pairs", 0.0) and model.score(NO[0]) > model.score(YES[0])


def test_no_prompt_is_judged_by_what_was_learned_from_it() -> None:
    leaky = [Example(f"p{n}", f"w{n}", bool(n % 2)) for n in range(40) for _ in range(2)]
    shared = [Example(f"p{n}", f"good w{n}" if n % 2 else f"bad w{n}", bool(n % 2)) for n in range(40)]
    assert np.mean([one > 0 for one in crossed(shared, Fit(least=1))]) == 1.0
    told = crossed(leaky, Fit(least=1))
    assert len({round(one, 12) for one in np.abs(told)}) <= 5  # nothing but the bias of each fold's model


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(DataError, match="all alike"):
        fit([Example("p", "a", True), Example("q", "b", True)])
    with pytest.raises(DataError, match="both in one fit"):
        fit([Example("p", "a", True), Example("q", "b", True, "c")])
    with pytest.raises(DataError, match="0 that are all alike"):
        fit([])


def test_the_file_gives_the_same_model_back(tmp_path: Path) -> None:
    model = fit(labelled())
    again = load(written(tmp_path / "model.json", model))
    assert again == model and again.score(NO[2]) == model.score(NO[2])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "Expecting"),
        ("[]", "another kind"),
        ('{"word_model": 2}', "another kind"),
        ('{"word_model": 1, "kind": "labels", "bias": NaN, "weights": {}}', "no finite numbers"),
        ('{"word_model": 1, "kind": "labels", "bias": 0, "weights": {"a": true}}', "no finite numbers"),
        ('{"word_model": 1, "kind": "odd", "bias": 0, "weights": {}}', "or no kind"),
    ],
)
def test_a_broken_file_is_one_clear_error(content: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(content, "utf-8")
    with pytest.raises(RewardError, match=found), WordModelReward(path=path).open():
        pass


def test_no_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="klimb rewards fit"), Refusal(path=tmp_path / "none.json").open():
        pass


def test_the_source_gives_the_score_or_the_probability(tmp_path: Path) -> None:
    path = written(tmp_path / "model.json")
    pairs = [Pair(Prompt("p", text="q"), "I cannot", "Sure")]
    plain, share = opinions(pairs, [WordModelReward(path=path), WordModelReward(path=path, name="p", probability=True)])
    assert plain.chosen[0].value == MODEL.score("I cannot") and plain.rejected[0].value == -0.5
    assert share.chosen[0].value == sigmoid(MODEL.score("I cannot"))


def test_refusing_pays_where_it_is_asked_for_and_costs_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path / "model.json")
    asked = [Prompt(kind, text="q", metadata={"label": kind} if kind else {}) for kind in ("unsafe", "safe", "")]
    with Refusal(path=path).open() as scorer:
        unsafe, safe, neither = scorer(asked, [said("I cannot")] * 3)
    assert unsafe.value == sigmoid(MODEL.score("I cannot")) and safe.value == 1 - (unsafe.value or 0)
    assert neither.outcome is Outcome.UNSCORABLE and "no column 'label'" in neither.reason
    pairs = written(tmp_path / "pairs.json", WordModel("pairs", 0.0, {"a": 1.0}))
    with pytest.raises(RewardError, match="a model of pairs"), Refusal(path=pairs).open():
        pass
