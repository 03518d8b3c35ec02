"""MLflow. The server's address comes from `uri` or MLFLOW_TRACKING_URI; credentials from the environment only."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import field_validator

from klimb.records import flatten
from klimb.rundir import RunDir
from klimb.tracking.base import Quiet, Sink, Tracker, former_id, remember_id

LONGEST = 500
"""Characters that a parameter may have on any server."""


class MLflow(Tracker):
    """Sends metrics and settings to an MLflow server; a run that goes on goes on there, too."""

    type: Literal["mlflow"] = "mlflow"
    package: ClassVar[str] = "mlflow"
    experiment: str = "klimb"
    """The experiment that the run belongs to; made where it is not there."""
    uri: str | None = None
    """The tracking server or store; by default MLFLOW_TRACKING_URI."""
    name: str | None = None
    """The run's name; by default that of its folder."""

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str | None) -> str | None:
        if uri and "@" in urlsplit(uri).netloc:
            raise ValueError("no user or password in the address: set MLFLOW_TRACKING_USERNAME and ..._PASSWORD")
        return uri

    def open(self, run: RunDir) -> Sink:
        return _MLflow(self, run)


class _MLflow(Quiet):
    def __init__(self, settings: MLflow, run: RunDir) -> None:
        self.settings, self.dir, self.id = settings, run, ""
        self.client: Any = None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Begins the run, or goes on with it."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run tells nobody but the server it was given
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(tracking_uri=self.settings.uri)
        if former := former_id(self.dir, "mlflow"):
            self.id = former
            return
        found = self.client.get_experiment_by_name(self.settings.experiment)
        experiment = found.experiment_id if found else self.client.create_experiment(self.settings.experiment)
        name = self.settings.name or self.dir.path.resolve().name
        self.id = self.client.create_run(experiment, run_name=name).info.run_id
        remember_id(self.dir, "mlflow", self.id)
        params = [Param(key, str(value)[:LONGEST]) for key, value in flatten(config).items()]
        for first in range(0, len(params), 100):
            self.client.log_batch(self.id, params=params[first : first + 100])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def finish(self, report: Mapping[str, Any]) -> None:
        """How it ended, then the end."""
        for name, value in flatten(report).items():
            self.client.set_tag(self.id, f"report.{name}", str(value)[:LONGEST])
        self.client.set_terminated(self.id)
