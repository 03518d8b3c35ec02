"""Logs: experience that other policies wrote, checked, imported and looked at before anything learns from it."""
