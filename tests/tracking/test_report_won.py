"""The win rate in a report's verdict, and that it is not known where nothing could judge."""

from __future__ import annotations

import re
from pathlib import Path

from klimb.tracking.story import tell
from klimb.tracking.verdict import verdict
from tests.tracking.synthetic import synthetic


def test_a_win_rate_that_nothing_could_judge_is_said_to_be_unknown_after_what_was_last_known(tmp_path: Path) -> None:
    run = synthetic(tmp_path / "run")
    unknown = "After step 61 none of 8 held-out answers could be judged against those from before training"
    run.append_metrics({"step": 61, "eval/win_failed": 8.0})
    assert f"in 60 steps. {unknown}: the win rate is not known." in verdict(tell(run))
    run.append_metrics({"step": 62, "eval/win": 0.5, "eval/win_n": 4.0, "eval/win_failed": 4.0})
    assert unknown not in verdict(tell(run)) and "(a tie is a half, 4 could not be judged)" in verdict(tell(run))
    run.append_metrics({"step": 63, "eval/win_failed": 8.0})
    assert re.search("After step 62 the answer was .* After step 63 none of 8 held-out", verdict(tell(run)))
