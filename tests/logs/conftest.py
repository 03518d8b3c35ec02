"""What the tests of logs share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], Policy]:
    policy = load(PolicySettings(), 0)
    return lambda _: policy
