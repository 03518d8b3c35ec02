"""How a step's metrics are read for people: its stages, its rate, a number in few letters."""

from __future__ import annotations

from collections.abc import Mapping

ORDER = ("sample", "score", "reference", "train", "optimize", "sync", "save", "evaluate")
WITHIN = 1e-9


def stages(metrics: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage in the order of a step, with what no stage accounts for as `other`."""
    named = {name.removeprefix("time/"): s for name, s in metrics.items() if name.startswith("time/") and s is not None}
    whole = named.pop("step", None)
    rank = {name: index for index, name in enumerate(ORDER)}
    found = dict(sorted(named.items(), key=lambda item: (rank.get(item[0], len(ORDER)), item[0])))
    rest = (whole or 0.0) - sum(found.values())
    return found | {"other": rest} if rest > WITHIN else found


def span(seconds: float) -> str:
    """A length of time in few letters: `7 ms`, `0.42 s`, `41 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def brief(name: str, value: float | None) -> str:
    """A metric's value in few letters, as its kind is read: shares of accuracy in percent, the rest in 3-4 digits."""
    if value is None:
        return "-"
    if name in ("eval/accuracy", "eval/format", "length/truncated", "policy/clip_share", "group/degenerate"):
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
