"""`klimb rewards compare`: the table, the JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from klimb.cli import rewarding
from klimb.data.preferences import Preferences
from klimb.errors import DataError, RewardError, SettingsError
from tests.rewards.classifiers import saved

SOURCES = """\
rewards:
  - {type: length, most: 100, slack: 100}
  - {type: repetition, n: 1}
  - {type: function, path: FILE:flaky}
"""
FLAKY = """\
def flaky(completion):
    if 'seven' in completion:
        raise KeyError('seven')
    return len(completion)
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "flaky.py").write_text(FLAKY, "utf-8")
    path = tmp_path / "sources.yaml"
    path.write_text(SOURCES.replace("FILE", str(tmp_path / "flaky.py")), "utf-8")
    return path


def rows(path: Path, *pairs: tuple[str, str]) -> Path:
    texts = [{"prompt": f"q{n}", "better": a, "rejected": b} for n, (a, b) in enumerate(pairs)]
    path.write_text("\n".join(map(json.dumps, texts)), "utf-8")
    return path


def test_the_table_is_printed_and_written(tmp_path: Path, sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = rows(tmp_path / "rows.jsonl", ("a b", "a a a"), ("c", "c c c c"), ("same", "same"), ("so", "seven more"))
    rewarding.compare(data, sources, ["chosen=better"], as_json=tmp_path / "out.json")
    shown, found = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert "3 pairs of 3 prompts; 1 rows left out" in shown and "1 times infra_failed: it raised KeyError" in shown
    by = {row["name"]: row for row in found["rows"]}
    assert [by[name]["accuracy"] for name in ("length", "repetition", "function")] == [1.0, 5 / 6, 0.0]
    assert by["function"]["failures"] == {"infra_failed: it raised KeyError: 'seven'": 1} and found["left_out"] == 1
    cell = found["cells"][1]
    assert (cell["first"], cell["second"], cell["ranked"], cell["agreement"]) == ("length", "function", 2, 0.0)
    assert found["together"] == 2 and found["conflict"] == 1.0
    assert "two sources or more conflict in 100.0%" in shown and "some source in 100.0%" in shown


def test_reward_models_have_their_calibration_whatever_their_scores_are_normalised_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = saved(tmp_path / "one", changes={"reward_scale": {"mean": 1.0, "std": 4.0, "answers": 2}})
    several = saved(tmp_path / "several", "bert", num_labels=2)
    sources = [
        {"type": "reward_model", "name": "plain", "path": str(one), "normalised": False},
        {"type": "reward_model", "name": "scaled", "path": str(one)},
        {"type": "reward_model", "name": "classes", "path": str(several), "label": 1},
    ]
    (tmp_path / "sources.yaml").write_text(json.dumps({"rewards": sources}), "utf-8")
    data = rows(tmp_path / "rows.jsonl", ("yes", "no"), ("a b", "abc"), ("d", "efg"))
    rewarding.compare(data, tmp_path / "sources.yaml", ["chosen=better"], as_json=tmp_path / "out.json")
    shown, found = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text("utf-8"))
    plain, scaled, classes = found["rows"]
    assert plain["std"] == pytest.approx(4 * scaled["std"], rel=1e-5) and classes["calibration"] is None
    for name in ("loss", "error"):
        assert plain["calibration"][name] == pytest.approx(scaled["calibration"][name], rel=1e-5)
    assert sum(one["pairs"] for one in plain["calibration"]["bins"]) == 3
    (line,) = [line for line in shown.split("as log-odds")[1].splitlines() if line.startswith("scaled")][:1]
    assert (
        f"{scaled['calibration']['loss']:.3f}" in line
        and "classes" not in shown.split("as log-odds")[1].split("\n\n")[0]
    )


def test_a_source_that_never_scores_is_shown_as_that(
    tmp_path: Path, sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewarding.compare(rows(tmp_path / "rows.jsonl", ("seven", "seven b")), sources, ["chosen=better"])
    shown = capsys.readouterr().out
    assert "never scored" in shown and "conflict in" not in shown


def test_what_is_not_fit_is_refused_with_the_cure(tmp_path: Path, sources: Path) -> None:
    data = rows(tmp_path / "rows.jsonl", ("a", "b"))
    alone = tmp_path / "alone.yaml"
    alone.write_text("rewards: [{type: length}]\n", "utf-8")
    with pytest.raises(RewardError, match="two reward sources or more"):
        rewarding.compare(data, alone, [])
    alone.write_text("rewards: [{type: length}, {type: lenght}]\n", "utf-8")
    with pytest.raises(SettingsError, match="length"):
        rewarding.compare(data, alone, [])
    with pytest.raises(SettingsError, match="chosen"):
        rewarding.compare(data, sources, ["choosen=better"])
    with pytest.raises(DataError, match="no field 'chosen'"):
        rewarding.compare(data, sources, [])
    single = tmp_path / "single.jsonl"
    single.write_text('{"prompt": "q", "completion": "a", "label": true}\n', "utf-8")
    with pytest.raises(DataError, match="rows=labelled gives single ones"):
        rewarding.compare(single, sources, ["rows=labelled"])
    with pytest.raises(DataError, match="none that can be used"):
        rewarding.compare(rows(tmp_path / "same.jsonl", ("a", "a")), sources, ["chosen=better"])


@pytest.mark.parametrize(
    ("file", "form"),
    [
        ("hh-rlhf-harmless/test.jsonl.gz", "hh"),
        pytest.param("pandalm/pandalm_testset-v1.json", "pandalm", marks=pytest.mark.slow),
        pytest.param("ultrafeedback-sample/eval_200.jsonl", "pairs", marks=pytest.mark.slow),
    ],
)
def test_six_packaged_sources_conflict_on_real_pairs(file: str, form: str, shared_data: Path, tmp_path: Path) -> None:
    for package in ("vaderSentiment", "harper", "profanity_check", "spellchecker"):
        pytest.importorskip(package)
    path = tmp_path / "sources.yaml"
    kinds = ("sentiment", "grammar", "profanity", "spelling", "repetition")
    path.write_text(
        "rewards:\n  - {type: length, most: 9999, slack: 9999}\n" + "".join(f"  - {{type: {one}}}\n" for one in kinds)
    )
    from klimb.evaluation.disagreement import compare
    from klimb.evaluation.opinions import opinions

    pairs, keys, _ = rewarding.pairs_of(Preferences(path=shared_data / file, rows=form, limit=12))  # type: ignore[arg-type]
    table = compare(list(opinions(pairs, rewarding.sources_of(path).rewards)), keys)
    assert len(table.rows) == 6 and len(table.cells) == 15 and table.together == len(pairs)
    assert all(row.scored == len(pairs) and row.failed == 0 for row in table.rows)
    assert table.conflict is not None and table.conflict > 0.5
