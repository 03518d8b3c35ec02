"""Opens the critic that a recipe's objective asks for: a head on the policy, or a model of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klimb.policy.policy import Policy
    from klimb.policy.value_model import ValueModel
    from klimb.recipe import Recipe
    from klimb.session import Session


def add_critic(session: Session) -> tuple[Session, str]:
    """The session with the critic that its objective asks for, and where that begins, in words. Raises ModelError."""
    found = critic_of(session.recipe, session.policy)
    if found is None:
        return session, _add_head(session)
    model, how = found
    return replace(session, value_model=model), f"; a critic with a model of its own: {how}"


def critic_of(recipe: Recipe, policy: Policy) -> tuple[ValueModel, str] | None:
    """The critic with a model of its own, and how its head begins, in words; None without one. Raises ModelError."""
    from klimb.policy.recomputing import recompute_beyond
    from klimb.policy.value_model import open_value_model
    from klimb.rewards.reward_model import scores_raw

    wanted = recipe.objective.value_model
    if wanted is None:
        return None
    normalised = not scores_raw(recipe.rewards, wanted.path)
    model, how = open_value_model(wanted.path, recipe.model, policy, recipe.seed, normalised)
    recompute_beyond(model.trunk.model, recipe.training.micro_tokens)
    return model, how


def _add_head(session: Session) -> str:
    """Gives the policy the head that its objective asks for, and says where it begins. Raises ModelError."""
    from klimb.policy import reward_head
    from klimb.policy.loading import folder_of

    recipe = session.recipe
    if not recipe.objective.critic:
        return ""
    session.policy.add_critic(recipe.objective.moves_trunk)
    folder = None if recipe.objective.reads_value or recipe.model.name == "tiny" else folder_of(recipe.model.name)
    if folder is None or not reward_head.begin(session.policy, folder):
        return "; a value head of zeros"
    return "; a value head that begins as its folder has it"
