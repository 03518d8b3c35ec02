"""1 where the completion is JSON of a given form, else 0."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from klimb.rewards.packaged import Packaged


class JsonSchema(Packaged):
    """Reads the whole completion as JSON, a fence of three backticks aside, and checks it by a JSON Schema.

    No reference to another address is followed.
    """

    package: ClassVar[str] = "jsonschema"
    extra: ClassVar[str] = "schema"
    program: ClassVar[str] = "json_schema_program"
    type: Literal["json-schema"] = "json-schema"
    form: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    """The schema (draft 2020-12)."""

    def given(self) -> dict[str, Any]:
        return {"form": self.form}
