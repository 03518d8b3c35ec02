"""An inspection for people: lines for a terminal, and one page without scripts or network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from klimb.tracking.visible import visible


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts, the verdict last."""
    shown = [f"{name:<12} {text}" for name, text in rows(facts)]
    return [*shown, *(one["line"] for one in facts["verdict"])]


def rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each fact with its name, in words."""
    f, p = _words(facts), _words(facts["prompts"])
    yield "rows", f"{f['rows']} in {f['groups']} groups, by {f['versions']} versions of a policy"
    yield "prompts", f"{p['different']} different; {p['several_ids']} stand under several ids; {p['alone']} once only"
    tries = f"{p['never']} never, {p['always']} always, {p['mixed']} mixed, {p['unscored']} unscored"
    yield "success", f"of the prompts {tries}; {p['differing']} have answers with different rewards"
    if facts["reward"]:
        yield "reward", f"{f['scored']} rows: {_spread(facts['reward'])}"
    for name, source in facts["sources"].items():
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(source["outcomes"].items()))
        yield f"score {name}"[:40], outcomes + (f": {_spread(source['values'])}" if source["values"] else "")
    if facts["further_scores"]:
        yield "more scores", f"{f['further_scores']} of further sources: only {len(facts['sources'])} are told apart"
    cut = f"{f['truncated']} rows cut off; {f['untokenised']} without tokens"
    yield "length", f"{_spread(facts['length'])} tokens; {cut}"
    mean = "" if facts["mean_logp"] is None else f"; mean {facts['mean_logp']:.3f} nats a token"
    missing = facts["rows"] - facts["with_logps"]
    yield "log-probs", f"{f['logged']} logged, {f['estimated']} estimated, {missing:,} missing{mean}"
    for name, use in (("weighted", "by importance weights"), ("plain", "without them")):
        one = facts["fit"][name]
        why = f"; {one['why']}" if one["why"] else ""
        yield f"fit {name}", f"{one['rows']:,} rows of {one['groups']:,} groups to learn from {use}{why}"
    if facts["cut_support"]:
        yield "support", f"{f['cut_support']} rows were drawn with top_p or top_k"
    if facts["policy"]:
        yield from _policy(facts["policy"], facts["temperature"])
    if facts["coverage"]:
        c = facts["coverage"]
        share = f"{100 * c['whole']:.1f} % stand there, {100 * c['begun']:.1f} % of their tokens begin an answer there"
        asked = f"{c['samples']:,} answers of the policy to {c['prompts']:,} prompts"
        yield "coverage", f"{asked}: {share}; {c['logged']:.1f} different logged answers a prompt"


def _words(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{value:,}" for name, value in facts.items() if isinstance(value, int)}


def _policy(p: Mapping[str, Any], temperature: float) -> Iterator[tuple[str, str]]:
    skipped = f"; {p['skipped']:,} that it cannot read" if p["skipped"] else ""
    yield "policy", f"asked about {p['rows']:,} rows, {p['tokens']:,} tokens at temperature {temperature:g}{skipped}"
    share = f"{100 * p['effective'] / p['rows']:.1f} %"
    yield "effective", f"{p['effective']:.1f} of {p['rows']:,} rows ({share}); mean ratio {p['mass']:.3g}, ideally 1"
    for band in p["bands"]:
        yield f"  {band['low']}-{band['high']}", f"{band['effective']:.1f} of {band['rows']:,} rows of that many tokens"
    outside = f"{100 * p['outside']:.1f} % of tokens outside [0.8, 1.2], {100 * p['below']:.1f} % below"
    yield "ratios", f"{outside}; 5 % to 95 %: {p['ratios']['q5']:.3g} to {p['ratios']['q95']:.3g}"
    yield "KL", f"{_interval(p['kl'])} nats a completion from behaviour to policy, {p['kl_token']:.4g} a token"
    if p["value"]:
        two = f"{_interval(p['weighted'])} weighted, {_interval(p['robust'])} doubly robust"
        yield "value", f"the policy's reward: {two}, {_interval(p['value'])} ordinary"


def _interval(three: tuple[float, float, float]) -> str:
    return f"{three[0]:.4g} ({three[1]:.4g} to {three[2]:.4g})"


def _spread(s: Mapping[str, float]) -> str:
    return f"mean {s['mean']:.4g}, sd {s['sd']:.4g}, median {s['q50']:.4g}, {s['q0']:.4g} to {s['q100']:.4g}"


def page(facts: Mapping[str, Any]) -> str:
    """The page. The same facts give the same text."""
    from jinja2 import Environment, StrictUndefined

    template = files("klimb.logs").joinpath("page.html.j2").read_text("utf-8")
    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown = [(visible(name, lines=False), visible(text, lines=False)) for name, text in rows(facts)]
    p = facts["prompts"]
    shares = [
        (name, p[name], 100 * p[name] / max(p["different"], 1)) for name in ("never", "mixed", "always", "unscored")
    ]
    return (
        engine.from_string(template).render(
            logs=visible(facts["logs"], lines=False), verdict=facts["verdict"], rows=shown, shares=shares
        )
        + "\n"
    )
