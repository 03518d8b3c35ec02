"""Policies: models that are trained, and how they are computed. Importing this imports no torch."""

from __future__ import annotations

from klimb.policy.base import PolicySettings, TinySizes

__all__ = ["PolicySettings", "TinySizes"]
