"""What stands on a terminal: one line a step, JSON, or a live view; and nothing that a model wrote can move it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from klimb.rundir import RunDir
from klimb.tracking.console import Json, Plain, Silent, console_sink
from klimb.tracking.live import Live, spark
from klimb.tracking.stages import brief, span, stages
from klimb.tracking.visible import visible
from tests.tracking.synthetic import HOSTILE, record

DANGEROUS = "\x1b\x07\x08\x00\x9b\r\u202e\u2066\u200f\u061c\u2028\ufeff\U000e0041\ud800"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text_that_a_model_wrote_loses_every_control_and_bidi_character() -> None:
    shown = visible(DANGEROUS)
    assert not set(shown) & set(DANGEROUS)
    assert shown.startswith("⟨U+001B⟩⟨U+0007⟩")


@pytest.mark.parametrize("text", ["plain", "Grüße", "数学", "שלום", "👩‍🏫 ok", "a\nb\tc", "नमस्ते"])
def test_ordinary_writing_of_any_language_stays(text: str) -> None:
    assert visible(text) == text


def test_one_line_stays_one_line_and_long_text_is_cut_with_a_word_about_it() -> None:
    assert visible("a\nb\tc", lines=False) == "a⏎b c"
    assert visible("x" * 30, limit=10) == "x" * 10 + " ⟨20 more characters⟩"


def test_plain_output_is_one_line_a_step() -> None:
    out = io.StringIO()
    sink = Plain(60, out)
    sink.start({}, 11)
    sink.log(12, record(12, 60, 12))
    first, second = out.getvalue().splitlines()
    assert first == "going on after step 11 of 60"
    assert second.startswith("step 12/60  reward 0.2  accuracy 11.5 %  format 58.0 %  kl 0.004  entropy 1.3")
    assert second.endswith("4.00 s")


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_hostile_events_are_one_harmless_line(kind: str) -> None:
    out = io.StringIO()
    sink = {"plain": Plain, "json": Json}[kind](60, out)
    sink.event("skipped\x1b[2J", {"what": HOSTILE + DANGEROUS})
    assert out.getvalue().count("\n") == 1
    assert not set(out.getvalue()) & set(DANGEROUS)


def test_json_lines_hold_the_numbers_exactly() -> None:
    out = io.StringIO()
    sink = Json(60, out)
    sink.start({}, 0)
    sink.log(3, {"loss": 0.1, "reward/mean": 0.30000000000000004})
    sink.finish({"step": 60})
    kinds = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["kind"] for line in kinds] == ["start", "step", "finish"]
    assert kinds[1]["metrics"] == {"loss": 0.1, "reward/mean": 0.30000000000000004}


def test_a_terminal_that_knows_ascii_only_gets_escapes() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, "ascii")
    Plain(1, out).event("note", {"text": "Grüße"})
    assert raw.getvalue() == b"note  text: Gr\\xfc\\xdfe\n"


@pytest.mark.parametrize(
    ("variable", "tty", "kind"),
    [
        ("", True, Live),
        ("", False, Plain),
        ("json", True, Json),
        ("plain", True, Plain),
        ("quiet", True, Silent),
        ("?", False, Plain),
    ],
)
def test_the_view_fits_the_terminal_and_the_wish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, tty: bool, kind: type
) -> None:
    monkeypatch.setenv("KLIMB_LOG", variable)
    monkeypatch.setenv("TERM", "xterm")
    assert type(console_sink(RunDir(tmp_path), 3, stream=Terminal() if tty else io.StringIO())) is kind


def shown(live: Live, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(live.render())
    return capture.get()


def test_the_live_view_shows_progress_rate_time_left_numbers_and_stages() -> None:
    live = Live("runs/demo", 60, Terminal())
    for step in range(13):
        live.log(step, record(step, 60, 12))
    text = shown(live)
    for words in ("runs/demo", "step 12/60", "4.00 s a step", "3 min 12 s left", "reward    0.2", "accuracy  11.5 %"):
        assert words in text
    assert "sample 1.25 s  train 2.50 s  evaluate 0.20 s  other 50 ms" in text


def test_the_live_view_before_the_first_step_says_so() -> None:
    assert "before the first step" in shown(Live("runs/demo", 60, Terminal()))


def test_the_live_view_shows_hostile_events_harmlessly_even_on_a_narrow_terminal() -> None:
    live = Live("runs/\x1b[2J", 60, Terminal())
    live.event("skipped", {"what": HOSTILE + DANGEROUS + "[bold]markup[/bold]"})
    for width in (20, 400):
        assert not set(shown(live, width)) & set(DANGEROUS)
    assert "[bold]markup[/bold]" in shown(live, 400)


def test_the_live_view_gives_the_terminal_back() -> None:
    out = Terminal()
    live = Live("runs/demo", 2, out)
    live.start({}, 0)
    live.log(1, record(1, 2, 1))
    live.finish({})
    assert out.getvalue().endswith("\x1b[?25h")


def test_stages_keep_their_order_and_name_the_rest() -> None:
    assert list(stages({"time/zeta": 1, "time/train": 2, "time/sample": 3, "time/step": 7}).items()) == [
        ("sample", 3),
        ("train", 2),
        ("zeta", 1),
        ("other", 1),
    ]
    assert stages({"time/train": 2, "time/step": 2}) == {"train": 2}


def test_numbers_are_written_in_few_letters() -> None:
    assert [span(s) for s in (0.0068, 0.417, 41.4, 200, 7500)] == ["7 ms", "0.42 s", "41 s", "3 min 20 s", "2 h 05 min"]
    assert [brief("eval/accuracy", 0.371), brief("loss", 0.01234), brief("tokens/sampled", 3072.0)] == [
        "37.1 %",
        "0.0123",
        "3072",
    ]
    assert spark([0.0, 0.5, 1.0]) == "▁▅█"
    assert spark([2.0, 2.0]) == "▁▁"
