"""1 where the completion's mathematical answer equals the prompt's, else 0."""

from __future__ import annotations

from typing import ClassVar, Literal

from klimb.rewards.packaged import Packaged


class MathVerify(Packaged):
    """math-verify's judgement: LaTeX and plain expressions, compared by sympy.

    An answer that it cannot read is unscorable.
    """

    package: ClassVar[str] = "math_verify"
    extra: ClassVar[str] = "math"
    program: ClassVar[str] = "math_verify_program"
    type: Literal["math-verify"] = "math-verify"
