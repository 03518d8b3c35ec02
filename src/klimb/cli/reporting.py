"""`klimb report`: a run's report.html, made again from its directory."""

from __future__ import annotations

from pathlib import Path


def report(run: Path) -> Path:
    """Writes the report and says where. Raises RunError where there is no run."""
    from klimb.rundir import RunDir
    from klimb.tracking.report import write_report

    rundir = RunDir.open(run)
    write_report(rundir)
    return rundir.report_file
