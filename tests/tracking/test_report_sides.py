"""A run whose accuracy is told for each value of a column: the report shows every side."""

from __future__ import annotations

import json
from pathlib import Path

from klimb.tracking.report import render
from klimb.tracking.story import tell
from tests.tracking.synthetic import synthetic


def test_the_sides_of_the_accuracy_stand_in_the_table_and_in_its_chart(tmp_path: Path) -> None:
    run = synthetic(tmp_path / "run", steps=2, every=1)
    lines = [json.loads(line) for line in run.metrics_file.read_text("utf-8").splitlines()]
    for place, line in enumerate(lines):
        share = 0.25 + 0.25 * place
        line |= {
            "eval/accuracy_safe": share,
            "eval/accuracy_safe_low": share - 0.1,
            "eval/accuracy_safe_high": share + 0.1,
        }
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    page = render(tell(run))
    assert "correct, safe" in page and "25.0 % (95 %: 15.0 % to 35.0 %)".replace(" %", "\N{NO-BREAK SPACE}%") in page
    assert "eval/accuracy_safe: 0.25 at step 0, 0.75 at step 2" in page
