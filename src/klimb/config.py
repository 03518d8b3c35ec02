"""Settings: frozen, strict records. Defaults < recipe YAML < `key=value` words."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """The base of every settings record: frozen; unknown names are errors; a field's docstring is its help text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )
