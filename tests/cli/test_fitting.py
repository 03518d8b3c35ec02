"""`klimb rewards fit`: from rows to a model on disk, with how good it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from klimb.cli import fitting
from klimb.errors import DataError
from klimb.rewards.word_fitting import Fit
from klimb.rewards.words import load


def labelled(path: Path, count: int = 30) -> Path:
    rows = [
        {
            "prompt": f"{path.stem} {n}",
            "completion": f"{'sorry i cannot' if n % 3 else 'sure here'} {n}",
            "label": bool(n % 3),
        }
        for n in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def test_labelled_files_make_one_model_that_says_how_good_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more").mkdir()
    files = [labelled(tmp_path / "a.jsonl"), labelled(tmp_path / "more/a.jsonl")]
    fitting.fit(files, tmp_path / "model.json", ["rows=labelled"], Fit(strength=10.0))
    model, shown = load(tmp_path / "model.json"), capsys.readouterr().out
    assert model.kind == "labels" and model.score("Sorry, I cannot.") > 0 > model.score("Sure, here")
    assert (
        model.about["examples"] == 60
        and model.about["accuracy"] == 1.0
        and set(model.about["files"]) == set(map(str, files))
    )
    assert model.about["line_share"] == pytest.approx(2 / 3)
    assert "right       1.000" in shown and "to beat     0.667: the commoner label" in shown


def test_pairs_make_a_reward_beside_the_line_of_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"q{n}", "chosen": f"kind w{n}", "rejected": f"rude x{n} y z" if n % 4 else "rude"}
        for n in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, [*rows, {"prompt": "q", "chosen": "a", "rejected": "a"}])), "utf-8")
    fitting.fit([path], tmp_path / "model.json", [], Fit())
    model = load(tmp_path / "model.json")
    assert model.kind == "pairs" and model.about["examples"] == 40 and model.about["line_share"] == 0.75
    assert model.about["accuracy"] == 1.0 and "the longer answer (or the shorter)" in capsys.readouterr().out


def test_rows_that_cannot_be_used_are_refused_unless_they_are_skipped(tmp_path: Path) -> None:
    path = labelled(tmp_path / "rows.jsonl")
    path.write_text(path.read_text("utf-8") + '\n{"prompt": "q"}\n', "utf-8")
    with pytest.raises(DataError, match="row 31"):
        fitting.fit([path], tmp_path / "model.json", ["rows=labelled"], Fit())
    fitting.fit([path], tmp_path / "model.json", ["rows=labelled", "skip=true"], Fit())
    path.write_text('{"prompt": "q"}\n', "utf-8")
    with pytest.raises(DataError, match="none that can be used"):
        fitting.fit([path], tmp_path / "model.json", ["rows=labelled", "skip=true"], Fit())


def test_refusals_of_xstest_are_told_by_words_of_other_prompts(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "xstest").glob("xstest_v2_completions_*.csv"))[:1]
    fitting.fit(files, tmp_path / "model.json", ["rows=xstest"], Fit())
    about = load(tmp_path / "model.json").about
    assert about["low"] > 0.85 and about["line_share"] < 0.6


def test_a_judge_of_brief_answers_reads_no_more_of_long_ones(tmp_path: Path) -> None:
    path, words = tmp_path / "rows.jsonl", {True: "sorry, no. Here you are", False: "here: yes. Sorry you are"}
    rows = [{"prompt": f"q{n}", "completion": words[n % 2 == 0], "label": n % 2 == 0} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    fitting.fit([path], tmp_path / "model.json", ["rows=labelled"], Fit(first=2))
    model = load(tmp_path / "model.json")
    assert set(model.weights) == {"sorry", "no", "here", "yes", "^ sorry", "sorry no", "^ here", "here yes"}
    assert model.first == 2 and model.score("Sorry, no.") > 0 > model.score("Here: yes")
    assert model.score("Sorry, no. Here: yes") == model.score("Sorry, no"), "of a longer answer it reads no more"


def test_pairs_that_begin_alike_are_no_pairs_for_a_judge_of_beginnings(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"q{n}", "chosen": f"{'kind' if n else 'both'} a", "rejected": f"{'rude' if n else 'both'} b"}
        for n in range(9)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    fitting.fit([path], tmp_path / "model.json", [], Fit(first=1))
    assert load(tmp_path / "model.json").about["examples"] == 8
