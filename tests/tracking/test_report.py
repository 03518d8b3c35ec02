"""The report: the numbers of the run directory and no others, harmless whatever it holds, honest about what lacks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from klimb.rundir import RunDir
from klimb.tracking import report
from klimb.tracking.report import write_report
from klimb.tracking.story import tell, time_by_stage
from klimb.tracking.verdict import table, verdict
from tests.tracking.synthetic import HOSTILE, numbers_of, synthetic

VOID = {"meta", "br", "img", "link", "input", "path", "use", "rect", "hr"}


class Page(HTMLParser):
    """Every tag and attribute, the text, and whether the tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return synthetic(tmp_path_factory.mktemp("whole") / "demo")


@pytest.fixture
def run(whole: RunDir, tmp_path: Path) -> RunDir:
    return RunDir.open(shutil.copytree(whole.path, tmp_path / "demo"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty charts, for tests that are about something else."""
    monkeypatch.setattr(report, "draw", lambda *_, **__: "<svg></svg>")


def page(run: RunDir) -> Page:
    return Page(write_report(run).read_text("utf-8"))


def test_the_report_has_the_numbers_of_the_metrics_file(run: RunDir) -> None:
    found, lines = page(run).text, numbers_of(run)
    first, last = lines[0], lines[-1]
    for line in (first, last):
        ends = [100 * line[name] for name in ("eval/accuracy", "eval/low", "eval/high")]
        assert "{:.1f} % (95 %: {:.1f} % to {:.1f} %)".format(*ends) in found
        assert f"{100 * line['eval/format']:.1f} % (no interval)" in found
    assert f"reward/mean: {lines[1]['reward/mean']:.4g} at step 1, {last['reward/mean']:.4g} at step 60" in found
    assert f"Peak memory: {last['memory/peak_gb']:.2f} GB" in found
    assert "klimb train recipes/demo.yaml 'run=runs/a b'" in found


def test_the_verdict_is_one_sentence_of_what_was_measured(run: RunDir) -> None:
    assert verdict(tell(run)) == "Held-out accuracy rose from 5.1 % to 37.1 % (+32.0 points) in 60 steps."


def test_no_change_and_a_loss_are_said_as_such(run: RunDir) -> None:
    run.append_metrics({"step": 61, "eval/accuracy": 0.05078125, "eval/low": 0.02, "eval/high": 0.09})
    assert verdict(tell(run)) == "Held-out accuracy is 5.1 % after 61 steps, as it was before."
    run.append_metrics({"step": 62, "eval/accuracy": 0.0, "eval/low": 0.0, "eval/high": 0.01})
    assert verdict(tell(run)) == "Held-out accuracy fell from 5.1 % to 0.0 % (-5.1 points) in 62 steps."


def test_a_gain_inside_its_interval_is_called_chance(run: RunDir) -> None:
    run.append_metrics({"step": 61, "eval/accuracy": 0.06, "eval/low": 0.0, "eval/high": 0.1})
    assert verdict(tell(run)).endswith("the 95 % intervals overlap, so that may be chance.")
    run.append_metrics({"step": 62, "eval/accuracy": 0.06, "eval/gain_low": -0.01, "eval/gain_high": 0.03})
    assert verdict(tell(run)).endswith(
        "(+0.9 points; 95 % interval -1.0 points to +3.0 points) in 62 steps; that may be chance."
    )


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_is_not_at_its_end_says_so(run: RunDir) -> None:
    run.truncate_after(45)
    assert "The run is not at its end: step 45 of 60." in page(run).text
    assert "measured after step040" in page(run).text


def test_time_by_stage_adds_up_to_the_time_of_all_steps(run: RunDir) -> None:
    found = {stage.name: stage for stage in time_by_stage(tell(run).metrics)}
    assert found["sample"].total == pytest.approx(60 * 1.25)
    assert found["train"].each == 2.5
    assert sum(stage.total for stage in found.values()) == pytest.approx(61 * 4.0)
    assert sum(stage.share for stage in found.values()) == pytest.approx(1.0)


def test_samples_show_the_same_prompt_before_and_after(run: RunDir) -> None:
    samples = tell(run).samples
    assert [(s.before.right, s.after.right) for s in samples] == [(False, True)] * 3 + [(False, False)] * 2 + [
        (True, True)
    ]
    assert (samples[0].prompt, samples[0].answer) == ("user: What is 2 + 1?", "3")
    assert (samples[0].before.text, samples[0].after.text) == ("answer 2 at 0", "answer 2 at 60")


def test_the_same_run_directory_gives_the_same_bytes_wherever_it_lies(run: RunDir, whole: RunDir) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert write_report(whole).read_bytes() == first


def test_the_page_is_well_formed_and_asks_nobody_for_anything(run: RunDir) -> None:
    found = page(run)
    assert found.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    names = {name for _, name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on")} | ({"src", "srcset"} & names)
    assert all(value.startswith("#") for _, name, value in found.attributes if name.endswith("href"))
    policy = next(value for tag, name, value in found.attributes if tag == "meta" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 0
    assert {value[1:] for _, name, value in found.attributes if name.endswith("href")} <= set(ids)


def test_every_chart_says_what_it_is_and_takes_the_pages_colours(run: RunDir) -> None:
    text = write_report(run).read_text("utf-8")
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 7
    for chart in charts:
        assert 'role="img" aria-label="' in chart
        assert "var(--s1)" in chart
        assert re.findall(r"#[0-9a-f]{6}", chart) == []


@pytest.mark.usefixtures("undrawn")
def test_hostile_text_everywhere_is_shown_and_does_nothing(tmp_path: Path) -> None:
    run = synthetic(tmp_path / "run", 4, 2, text=HOSTILE)
    found = Page(write_report(run).read_text("utf-8"))
    assert found.open == []
    assert not {"script", "img"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert found.text.count("<script>alert(1)</script>") >= 8
    assert not set("\x1b\x07\u202e\u2066") & set(write_report(run).read_text("utf-8"))
    assert "⟨U+202E⟩" in found.text


@pytest.mark.usefixtures("undrawn")
def test_a_hostile_folder_name_is_harmless(run: RunDir) -> None:
    odd = RunDir.open(run.path.rename(run.path.with_name("<b onclick=x>\u202e")))
    found = page(odd)
    assert "b" not in found.tags
    assert "<b onclick=x>⟨U+202E⟩" in found.text


def test_an_empty_run_says_what_is_missing(tmp_path: Path) -> None:
    found = page(RunDir.create(tmp_path / "run", {"settings": {"training": {"steps": 5}}})).text
    for words in (
        "Held-out accuracy was not measured. The run is not at its end: step 0 of 5.",
        "The command that made this run was not written down.",
        "Missing: this run measured no held-out accuracy.",
        "Missing: there are no metrics to draw.",
        "Missing: no times were written.",
        "Peak memory: not measured.",
        "metrics: nothing was written down",
        "reward: no reward/mean in metrics.jsonl",
        "environment: nothing was written",
    ):
        assert words in found


@pytest.mark.parametrize(
    "name", ["config.json", "environment.json", "metrics.jsonl", "events.jsonl", "evaluations/step-000060.parquet"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\n\x00\n",
        b"[]",
        b'{"argv": 5, "settings": 3, "step": 1}\n',
        b'{"step": "x", "settings": 3, "argv": 5}\n{"kind": [1]}\n3\n',
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_a_broken_file_is_told_and_the_rest_is_shown(run: RunDir, name: str, content: bytes) -> None:
    (run.path / name).write_bytes(content)
    found = page(run)
    assert found.open == []
    assert "Held-out accuracy" in found.text


def test_a_long_run_is_reported_quickly(tmp_path: Path) -> None:
    run = synthetic(tmp_path / "run", 5000, 500)
    begun = time.process_time()
    path = write_report(run)
    assert time.process_time() - begun < 4
    assert path.stat().st_size < 1_000_000


def test_the_report_needs_no_torch(run: RunDir) -> None:
    code = (
        "import sys; from klimb.rundir import RunDir; from klimb.tracking.report import write_report\n"
        "write_report(RunDir.open(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_table_keeps_correctness_and_format_apart(run: RunDir) -> None:
    names = [row.name for row in table(tell(run))]
    assert "correct (accuracy)" in names
    assert "in the wanted form (format)" in names
    assert "could not be scored (in neither)" in names
