"""The colours of tokens: ramps whose lightness only rises or only falls, so that they also read without hue."""

from __future__ import annotations

from collections.abc import Iterator

RGB = tuple[float, float, float]

STEPS = 24
"""Colours of a ramp."""
LIGHT, DARK = (1.0, 1.0, 1.0), (0.071, 0.078, 0.094)
"""The page by day and by night."""
SIDES = {LIGHT: ((0.02, 0.29, 0.58), (0.70, 0.31, 0.0)), DARK: ((0.45, 0.72, 1.0), (1.0, 0.66, 0.36))}
"""Below and above the middle: blue and orange."""
KEPT = {LIGHT: (0.63, 0.85, 0.80), DARK: (0.05, 0.42, 0.38)}


def sheet() -> str:
    """The classes .s0 to .s23 (sequential), .d0 to .d24 (diverging), .k1 and .k0, for both themes."""
    night = "\n".join(rules(DARK))
    return "\n".join(rules(LIGHT)) + f"\n@media (prefers-color-scheme: dark) {{\n{night}\n}}\n"


def rules(paper: RGB) -> Iterator[str]:
    """One theme's classes."""
    for number in range(STEPS):
        yield _rule(f"s{number}", sequential(number / (STEPS - 1), paper))
    for number in range(STEPS + 1):
        yield _rule(f"d{number}", diverging(2 * number / STEPS - 1, paper))
    yield _rule("k1", KEPT[paper])
    yield _rule("k0", paper)


def sequential(share: float, paper: RGB) -> RGB:
    """From the paper to the far end of viridis: dark by day, bright by night."""
    from matplotlib import colormaps

    at = 1.0 - share if paper == LIGHT else share
    red, green, blue, _ = colormaps["viridis"](float(at))
    return _mixed((red, green, blue), paper, min(1.0, 1.35 * share**0.8))


def diverging(share: float, paper: RGB) -> RGB:
    """From blue (-1) over the paper (0) to orange (1)."""
    below, above = SIDES[paper]
    return _mixed(below if share < 0 else above, paper, abs(share) ** 0.8)


def ink_on(colour: RGB) -> str:
    """Black or white, whichever stands out more."""
    light = luminance(colour)
    return "#000" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "#fff"


def luminance(colour: RGB) -> float:
    """Relative luminance of WCAG 2, from 0 to 1."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _mixed(colour: RGB, paper: RGB, share: float) -> RGB:
    red, green, blue = (share * one + (1.0 - share) * other for one, other in zip(colour, paper, strict=True))
    return red, green, blue


def _rule(name: str, colour: RGB) -> str:
    written = "#" + "".join(f"{round(255 * part):02x}" for part in colour)
    return f".{name} {{ background: {written}; color: {ink_on(colour)}; }}"
