"""The doctor's questions about what runs need: pulled models, extras, and what a recipe names."""

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from klimb.cli import recipes
from klimb.cli.findings import BAD, Finding, Probe, safely

if TYPE_CHECKING:
    from klimb.policy.policy import Policy
    from klimb.recipe import Recipe

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "gym": "reasoning_gym",
        "grammar": "harper",
        "schema": "jsonschema",
        "language": "py3langid",
        "math": "math_verify",
        "sentiment": "vaderSentiment",
        "spelling": "spellchecker",
        "profanity": "profanity_check",
        "schedulefree": "schedulefree",
        "wandb": "wandb",
        "mlflow": "mlflow",
        "trackio": "trackio",
        "datasets": "datasets",
    }
)
PATIENCE = 5.0
"""Seconds that an endpoint may take to answer."""


def _models() -> Iterator[Finding]:
    from klimb.policy.pull import KNOWN, resolve

    for name in KNOWN:
        folder = resolve(name)
        if folder is None:
            yield Finding("model", "note", f"{name} is not pulled", f"klimb pull {name}")
        else:
            yield Finding("model", "ok", f"{name} in {folder}")


def _extras() -> Iterator[Finding]:
    there = [extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module)]
    missing = [extra for extra in EXTRAS if extra not in there]
    text = f"installed: {', '.join(there) or 'none'}"
    if missing:
        text += f"; not installed, and not needed unless a recipe names them: {', '.join(missing)}"
    yield Finding("extras", "ok", text)


def of_recipe(name: str) -> Iterator[Finding]:
    """What a recipe needs: right settings, readable data, endpoints that answer, a model that loads."""
    loaded: list[Recipe] = []

    def settings() -> Iterator[Finding]:
        loaded.append(recipes.load(name))
        yield Finding("settings", "ok", f"{recipes.find(name)} is right")

    yield from safely("settings", settings)
    for recipe in loaded:
        yield from safely("data", lambda: _data(recipe))  # noqa: B023 used at once
        for url in sorted(set(addresses(_plain(recipe)))):
            yield reach(url)
        yield from safely("policy", lambda: _policy(recipe))  # noqa: B023


def _data(recipe: Recipe) -> Iterator[Finding]:
    from klimb.session import problems_of

    problems = problems_of(recipe)
    yield Finding("data", "ok", f"{len(problems.train):,} prompts, {len(problems.held_out):,} held out")


def _policy(recipe: Recipe) -> Iterator[Finding]:
    """Which way the model is computed and sampled, and how its critic begins; they are loaded for that."""
    from klimb.policy.loading import load

    policy = load(recipe.model, recipe.seed, recipe.source.speaks(recipe.objective.reads_logp))
    yield Finding("policy", "ok", policy.describe())
    yield from safely("critic", lambda: _critic(recipe, policy))
    with recipe.generator.open(policy) as sampler:
        describe = getattr(sampler, "describe", None)
        if describe is not None:
            yield Finding("sampler", "ok", str(describe()))


def _critic(recipe: Recipe, policy: Policy) -> Iterator[Finding]:
    """How a critic with a model of its own begins, where there is one."""
    from klimb.critic import critic_of

    if (found := critic_of(recipe, policy)) is not None:
        yield Finding("critic", "ok", found[1])


def _plain(recipe: Recipe) -> dict[str, Any]:
    from klimb.config import dump

    return dump(recipe)


def addresses(value: Any) -> Iterator[str]:
    """Every http address in the settings."""
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from addresses(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from addresses(inner)


def reach(url: str) -> Finding:
    """Whether an address answers at all; an answer that refuses (401, 404) is one."""
    asked = url.rstrip("/") + "/models" if url.rstrip("/").endswith("/v1") else url
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:  # noqa: S310 http or https, see addresses
            said = f"answers with {answer.status}"
    except urllib.error.HTTPError as error:
        said = f"answers with {error.code}"
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        return Finding("endpoint", BAD, f"{url} does not answer: {why}", "start the server, or correct the address")
    return Finding("endpoint", "ok", f"{url} {said}")


PROBES: Mapping[str, Probe] = MappingProxyType({"model": _models, "extras": _extras})
