"""1 where the completion is in a language, else 0."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from klimb.rewards.packaged import Packaged


class Language(Packaged):
    """What py3langid takes the text for; it needs a sentence or so to be right."""

    package: ClassVar[str] = "py3langid"
    extra: ClassVar[str] = "language"
    program: ClassVar[str] = "language_program"
    type: Literal["language"] = "language"
    wanted: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "en"
    """The language's two letters (ISO 639-1)."""

    def given(self) -> dict[str, Any]:
        return {"wanted": self.wanted}
