"""What a lens finds in a run: values that are those of the policies, and names for what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from klimb.batch import Batch
from klimb.cli import main
from klimb.errors import RunError
from klimb.functional import divergence, entropy
from klimb.lens.measure import likeliest, measure
from klimb.lens.page import render
from klimb.look import file_view, run_views
from klimb.policy.base import PolicySettings, TinySizes
from klimb.policy.loading import load
from klimb.recipe import Recipe
from klimb.rollouts import read
from klimb.rundir import RunDir
from tests.faults.runs import SETTINGS

RECIPE = Recipe.model_validate(SETTINGS)


def command(*words: object) -> object:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


@pytest.mark.parametrize("path", ["packed", "plain"])
def test_measured_values_are_those_of_the_models_own_logits(run: Path, path: str) -> None:
    settings = RECIPE.model.model_copy(update={"path": path})
    initial = load(settings, RECIPE.seed)
    policy = load(settings.model_copy(update={"name": str(RunDir(run).checkpoint(9) / "model")}))
    batch = Batch.of(read(RunDir(run).rollout(9)))
    found = measure(policy, batch, initial, part=40)
    place = 0
    for row in range(batch.rows):
        tokens = batch.tokens[batch.row == row]
        prompt = batch.prompts[int(batch.group[row])]
        ids = torch.cat([prompt, tokens])[None]
        with torch.no_grad():
            now, then = (
                one.model(input_ids=ids).logits[0, prompt.numel() - 1 : -1].float() for one in (policy, initial)
            )
        here = slice(place, place + tokens.numel())
        place = here.stop
        own = now.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        assert found.logp[here] == pytest.approx(own.numpy(), abs=1e-4)
        assert found.entropy[here] == pytest.approx(entropy.of_logits(now).numpy(), abs=1e-4)
        assert found.kl is not None
        assert found.kl[here] == pytest.approx(divergence.exact(now, then).numpy(), abs=1e-4)
        best, ids = now.softmax(-1).topk(5)
        assert found.probability[here] == pytest.approx(best.numpy(), abs=1e-4)
        assert (found.likeliest[here] == ids.numpy()).mean() > 0.9  # near ties may change places
    assert place == found.logp.size


@pytest.mark.parametrize("size", [100, 256, 640, 3200])
def test_the_likeliest_are_those_of_a_full_ranking(size: int) -> None:
    values = torch.rand(8, size, generator=torch.Generator().manual_seed(size))
    values[0, :5] = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0])  # all in one block
    best, ids = likeliest(values, 5)
    ranked = values.topk(5)
    assert torch.equal(best, ranked.values) and torch.equal(ids, ranked.indices)


def test_what_a_lens_does_not_read_of_a_checkpoint_may_be_broken_and_what_it_reads_may_not(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    folder = RunDir(tmp_path / "run").checkpoint(9)
    for file, label in (("optimizer.safetensors", "step 9"), ("model/model.safetensors", "step 8")):
        (folder / file).chmod(0o600)
        content = bytearray((folder / file).read_bytes())
        content[-1] ^= 1
        (folder / file).write_bytes(content)
        (view,) = run_views(tmp_path / "run", 9)
        assert view.policy == f"the policy after {label}", file


def test_a_step_has_every_value_and_the_ratio_is_new_over_recorded(run: Path) -> None:
    (view,) = run_views(run)
    assert view.name == "small, step 9"
    assert view.policy == "the policy after step 9"
    assert view.missing == ()
    values = view.values
    assert {"entropy", "logp", "now_logp", "now_entropy", "ratio", "kl", "advantage", "kept", "initial_logp"} <= set(
        values
    )
    recorded = [v for group in view.groups for one in group.rollouts for v in one.completion.logps]
    assert values["logp"].tolist() == pytest.approx(recorded)
    assert values["ratio"] == pytest.approx(np.exp(values["now_logp"] - values["logp"]), rel=1e-5)
    assert np.abs(values["ratio"] - 1).max() > 1e-4, "the policy has moved"
    assert values["kl"].max() > 1e-4
    assert set(view.overlaps) >= {"1", "9"}
    assert view.overlaps["1"].share == 1.0, "the initial policy drew the first step"
    assert (view.overlaps["9"].of, view.overlaps["9"].tokens) == (-(-len(view.tokens) // 5), len(view.tokens))


def test_the_first_step_of_a_run_without_checkpoints_is_measured_by_the_initial_policy(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    first, later = run_views(tmp_path / "run", 1, against_step=5)
    assert first.policy == "the initial policy"
    assert "ratio" not in first.values
    assert first.values["now_logp"] == pytest.approx(first.values["logp"], abs=1e-4)
    assert not first.values["kl"].any()
    assert later.likeliest is None
    assert "no checkpoint" in later.missing[0]


def test_a_run_whose_models_are_gone_still_gives_a_page_that_says_so(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(run, path, ignore=shutil.ignore_patterns("checkpoints"))
    config = json.loads((path / "config.json").read_text())
    config["settings"]["model"]["name"] = str(tmp_path / "gone")
    (path / "config.json").write_text(json.dumps(config))
    (view,) = run_views(path, 5)
    assert {"entropy", "logp", "advantage", "kept"} == set(view.values)
    assert view.words(77) == "⟨77⟩"
    page = render([view])
    for what in ("KL to the initial model", "alternatives", "no tokenizer could be loaded"):
        assert what in page


def test_an_initial_model_that_has_changed_is_not_taken_for_the_initial_one(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["settings"]["seed"] = 5
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    (view,) = run_views(tmp_path / "run", 9)
    assert "kl" not in view.values
    assert "other weights than the run began with" in " ".join(view.missing)


def test_what_is_not_there_is_named_before_a_model_is_loaded(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"step 77.*steps 1 to 9"):
        run_views(run, 77)
    with pytest.raises(RunError, match="step 78"):
        run_views(run, 1, against_step=78)
    with pytest.raises(RunError, match="no such folder"):
        run_views(run, 1, against=tmp_path / "none")


def test_the_command_writes_page_numbers_and_figures(run: Path, tmp_path: Path) -> None:
    page, numbers, plots = tmp_path / "p.html", tmp_path / "n.json", tmp_path / "plots"
    words = ("--step", 9, "--against", run, "--against-step", 2, "--out", page, "--json", numbers, "--plots", plots)
    assert command("lens", run, *words, "--least", 1) == 0
    assert page.read_text().count("<svg") >= 4
    views = json.loads(numbers.read_text())["views"]
    assert [view["name"] for view in views] == ["small, step 9", "small, step 2"]
    assert len(views[0]["rows"]) == 16
    names = {path.name for path in plots.iterdir()}
    assert {"entropy.svg", "entropy.png", "change.svg", "overlap.png", "kept.svg"} <= names
    told = views[0]["distributions"]
    texts = {one["text"] for one in (*told["highest"], *told["lowest"])}
    assert told["least"] == 1 and min(one["count"] for one in (*told["highest"], *told["lowest"])) == 1
    assert len(texts) == len(told["highest"]) + len(told["lowest"])
    assert set(told["overlaps"]["9"]) == {"share", "of", "tokens"}
    assert f">{told['overlaps']['9']['of']}<" in (plots / "overlap.svg").read_text(), "each point says of how many"
    assert (plots / "entropy.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_completions_is_scored_by_any_model(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    rows = [{"prompt": "2 + 3 =", "completion": " 5"}, {"prompt": "2 + 3 =", "completion": " \u202e6<b>"}]
    rows.append({"prompt": [{"role": "user", "content": "hello"}], "completion": "hi"})
    file.write_text("\n".join(json.dumps(row) for row in rows))
    view = file_view(file, "tiny")
    assert [len(group.rollouts) for group in view.groups] == [2, 1]
    policy = load(PolicySettings(name="tiny", tiny=TinySizes()))
    assert view.values["logp"] == pytest.approx(policy(Batch.of(view.groups)).logp.detach().numpy(), abs=1e-4)
    assert "".join(view.words(token) for token in view.tokens[:2]) == " 5"
    assert command("lens", file, "--model", "tiny") == 0
    assert (tmp_path / "some.jsonl.lens.html").is_file()


def test_bad_rows_and_bad_words_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n{"prompt": 3, "completion": "\\ud800"}\n')
    cases = [
        (("lens", file, "--model", "tiny"), 3, ("row 2, field 'completion'", "row 3, field 'prompt'", "surrogate")),
        (("lens", file), 2, ("--model",)),
        (("lens", file, "--model", "tiny", "--step", 3), 2, ("--step 3",)),
        (("lens", run, "--model", "tiny"), 3, ("folder",)),
        (("lens", run, "--out", tmp_path / "no/p.html"), 8, ("no folder",)),
        (("lens", tmp_path / "none"), 8, ("no such folder",)),
    ]
    for words, code, says in cases:
        assert command(*words) == code
        err = capsys.readouterr().err
        assert all(part in err for part in says), err
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "a", "completion": "b" * 600}))
    assert command("lens", long, "--model", "tiny") == 3
    assert "row 1, field 'prompt'" in capsys.readouterr().err
