"""Numbers in text: found in linear time, read exactly, never blown up."""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST = 400
"""More digits, or a larger exponent, are not read as a number: exact arithmetic is not free."""

_NUMBER = re.compile(
    r"(?P<sign>(?<![0-9A-Za-z_)\]])[-+\u2212])?[$\u20ac\xa3]?"  # in `7-5` the sign is an operation, not part of the 5
    r"(?P<whole>[0-9][0-9,]*|(?=\.[0-9]))(?P<part>\.[0-9]+)?(?P<power>[eE][-+]?[0-9]+)?"
    r"(?P<under>/[0-9]++(?![0-9,]*\.[0-9]))?"  # `++`: fewer digits would not fit either
)
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")


def read_all(text: str) -> list[Fraction | None]:
    """Every number in a text, in order; None for one that cannot be read (1/0, 400 digits and more)."""
    found: list[Fraction | None] = []
    for match in _NUMBER.finditer(text):
        whole = match["whole"].rstrip(",")
        pieces = (
            [whole.replace(",", "")] if _GROUPED.fullmatch(whole) else [one for one in whole.split(",") if one] or [""]
        )
        ends = len(match["whole"]) != len(whole)  # `3,` ended a clause: what follows the comma is not its decimals
        found += [_value("", piece, "", "", "") for piece in pieces[:-1]]
        tail = ("", "", "") if ends else (match["part"] or "", match["power"] or "", match["under"] or "")
        found.append(_value((match["sign"] or "") if len(pieces) == 1 else "", pieces[-1], *tail))
    return found


def read_one(text: str) -> Fraction | None:
    """The number that a short text is, perhaps with a unit or a currency sign; None where it holds none, or several."""
    numbers = read_all(text)
    return numbers[0] if len(numbers) == 1 else None


def _value(sign: str, whole: str, part: str, power: str, under: str) -> Fraction | None:
    exponent = power[1:].lstrip("+-").lstrip("0")
    if len(whole) + len(part) > LONGEST or len(under) > LONGEST or len(exponent) > 3 or int(exponent or 0) > LONGEST:
        return None
    value = Fraction(f"{whole or '0'}{part}{power}")
    if under:
        below = int(under[1:])
        if below == 0:
            return None
        value /= below
    return -value if sign in ("-", "\u2212") else value
