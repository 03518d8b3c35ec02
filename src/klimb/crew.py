"""Opens all that the training loop works with, from a session: the learner, the source, the examiner, the keepers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from klimb.examiner import Version, asking
from klimb.objectives.carried import Carried, Refresh
from klimb.recipe import Recipe
from klimb.rendering import encoding
from klimb.rewards.combining.base import Combiner
from klimb.rewards.combining.selected import Selected
from klimb.rewards.scoring import name_of
from klimb.rundir import RunDir
from klimb.session import Session
from klimb.sources.base import Supplies, Timer
from klimb.sources.buffer import Replays
from klimb.sources.given import Given
from klimb.tracking.hub import Tracking
from klimb.tracking.watching import Watcher

if TYPE_CHECKING:
    from klimb.policy.adapter import Started
    from klimb.policy.policy import Policy
    from klimb.training.keeping import Keeper
    from klimb.training.loop import Crew, Evaluate
    from klimb.training.state import SaveModel
    from klimb.training.step import Learner
    from klimb.training.updater import Updater


LARGE = 1 << 25
"""From so many weights on, freed memory is given back between sampling and learning: it takes 0.1 s a step."""


def carried_of(recipe: Recipe) -> Carried:
    """What is carried for the objective, and the reference where the source says when it is the policy as it is."""
    wanted = recipe.objective.carried
    return replace(wanted, refresh=Refresh()) if recipe.source.renews else wanted


def copies_of(recipe: Recipe) -> int:
    """How many frozen copies of the initial policy a run loads; none with an adapter, which is taken off for it."""
    if recipe.model.lora is not None:
        return 0
    refers, moves = recipe.objective.refers, carried_of(recipe).refresh is not None
    drifts = isinstance(recipe.source, Given) and not recipe.scorer
    looks = isinstance(recipe.combining, Selected) and recipe.combining.sees == "initial"
    return refers + ((drifts or looks) and (moves or not refers))


def open_crew(session: Session, rundir: RunDir, log: Tracking, optimizer: Updater) -> Crew:
    """Everything the loop works with."""
    from klimb.policy.hardware import release_freed_pages
    from klimb.training.loop import Crew
    from klimb.training.stopwatch import Stopwatch
    from klimb.training.updater import at_average

    recipe, policy, watch, version = session.recipe, session.policy, Stopwatch(), Version(session.policy)

    def moved() -> None:
        version.moved()
        if recipe.model.checkpointing:
            release_freed_pages()
        if session.own is not session.sampler:
            session.own.refresh()

    def examined() -> None:
        version.moved()
        session.own.refresh()

    learner = _learner(session, optimizer)
    combiner = _combiner(session, learner)
    experience = recipe.source.open(_renewing(_supplies(session, version, watch.stage, combiner), learner))
    kept = getattr(experience, "keeper", None)
    examiner = _examiner(session, version, rundir, learner)
    return Crew(
        rundir=rundir,
        learner=learner,
        experience=experience,
        sampler=session.sampler,
        evaluate=at_average(optimizer, examiner, examined),
        save_model=at_average(optimizer, _saving(policy, examiner), examined),
        schedule=recipe.optimizer,
        checkpoints=recipe.checkpoints,
        due=recipe.evaluation.due,
        seed=recipe.seed,
        log=log,
        watch=watch,
        moved=moved,
        tidy=release_freed_pages if policy.weights >= LARGE else lambda: None,
        keepers={**learner.carriers, **_keepers(session, learner, kept, combiner)},
        observe=combiner.observe,
        alarm=Watcher(recipe.alerts, rundir.read_metrics(), rundir.read_events(), log.event),
    )


def _keepers(session: Session, learner: Learner, buffer: Keeper | None, combiner: Combiner) -> dict[str, Keeper]:
    """What has a state beside the policy's whole weights and what the objective wants carried, by name."""
    policy = session.policy
    every = {
        "critic": policy.critic,
        "value_model": learner.critic,
        "lora": policy.adapter,
        "buffer": buffer,
        "combining": combiner.keeper,
    }
    return {name: one for name, one in every.items() if one is not None}


def _learner(session: Session, optimizer: Updater) -> Learner:
    """What turns a batch into an update, with the reference and what else its objective wants carried."""
    from klimb.policy.against import Against
    from klimb.training.carrying import open_carriers
    from klimb.training.own_critic import open_own
    from klimb.training.remembered import Remembered
    from klimb.training.step import Learner
    from klimb.training.weighing import Passes

    recipe = session.recipe
    reference = _reference(session) if recipe.objective.refers else None
    carriers = open_carriers(
        carried_of(recipe), session.policy.named_parameters, reference.named_parameters if reference else None
    )
    remembered = None
    if reference is not None and not recipe.source.scores:
        remembered = Remembered(reference, samples=not recipe.objective.reads_divergence)
        carriers = {**carriers, "remembered": remembered}
    return Learner(
        Against(session.policy, reference) if reference and recipe.objective.reads_divergence else session.policy,
        optimizer,
        recipe.objective,
        recipe.selector,
        recipe.training,
        reference=remembered or reference,
        passes=Passes(recipe.source.epochs, recipe.source.minibatches),
        comparable=recipe.source.replays or recipe.sampling.transform.comparable,
        carriers=carriers,
        temperature=recipe.sampling.temperature if recipe.source.replays else None,
        behaviour=isinstance(recipe.source, Replays) and recipe.source.old == "behaviour",
        critic=open_own(session.value_model, recipe.objective.value_model, recipe.optimizer),
    )


def _combiner(session: Session, learner: Learner) -> Combiner:
    """What makes one reward of several scores; models that it looks at prompts with are loaded when they are needed."""
    return session.combiner(lambda: _initial(session, learner))


def _supplies(session: Session, version: Callable[[], str], stage: Timer, combiner: Combiner) -> Supplies:
    """What the source of experience works with; completions of another policy have no version that we know."""
    recipe = session.recipe
    return Supplies(
        prompts=session.train,
        sampler=session.sampler,
        sampling=recipe.sampling,
        score_all=session.score_all,
        weights={name_of(reward): reward.weight for reward in recipe.rewards},
        version=version if session.own is session.sampler else lambda: "",
        seed=recipe.seed,
        stage=stage,
        template=session.policy.template(),
        given=session.problems.given,
        encode=encoding(session.policy, recipe.scorer),
        ended=session.policy.ended if recipe.scorer else None,
        vocabulary=session.policy.model.get_input_embeddings().weight.shape[0],
        context=session.policy.context,
        demands=recipe.demands,
        unlabelled=session.unlabelled,
        combiner=combiner,
    )


def _renewing(supplies: Supplies, learner: Learner) -> Supplies:
    """The supplies with what makes the policy the reference, where that can move."""
    from klimb.training.references import Refreshed

    held = learner.carriers.get("reference")
    return replace(supplies, renew=held.renew) if isinstance(held, Refreshed) else supplies


def _initial(session: Session, learner: Learner) -> Policy | Started:
    """The initial policy, frozen: the learner's reference where nothing moves that, else another copy."""
    from klimb.policy.adapter import Started
    from klimb.policy.policy import Policy
    from klimb.training.remembered import Remembered

    known = learner.reference.policy if isinstance(learner.reference, Remembered) else learner.reference
    stays = carried_of(session.recipe).refresh is None
    return known if stays and isinstance(known, Policy | Started) else _reference(session)


def _reference(session: Session) -> Policy | Started:
    """The initial policy, frozen: with an adapter, the same weights and the adapter that the run began with."""
    from klimb.policy.adapter import Started
    from klimb.policy.loading import load

    recipe = session.recipe
    if session.policy.adapter is not None:
        return Started(session.policy, session.policy.adapter)
    policy = load(recipe.model, recipe.seed, like=session.policy)
    for parameter in policy.parameters():
        parameter.requires_grad_(False)
    return policy


def _saving(policy: Policy, examiner: Evaluate) -> SaveModel:
    """How the model is saved: as a reward model, with its scores' scale, where that is what was trained."""
    from klimb.evaluation.reward_model import RewardExam

    if not isinstance(examiner, RewardExam):
        return policy.save
    from klimb.policy import reward_head

    return lambda folder, weights: reward_head.save(policy, examiner.scale(), folder, weights)


def _examiner(session: Session, version: Version, rundir: RunDir, learner: Learner) -> Evaluate:
    """What measures the policy after a step: answers that can be checked, held-out preferences, how far it went."""
    from klimb.evaluation.divergence import Divergence
    from klimb.evaluation.preferences import PreferenceExam
    from klimb.evaluation.reward_model import RewardExam, words_win

    recipe, source = session.recipe, session.recipe.source
    sampling, seed, tokens = recipe.sampling, recipe.seed, recipe.training.micro_tokens
    known, asked, given = learner.reference, session.asked, session.problems.given
    most = source.answer_tokens if isinstance(source, Given) else None
    if recipe.scorer:
        learned = session.train if isinstance(source, Given) else ()  # a log's pairs are not those of the data
        words = cache(partial(words_win, learned, asked, given))
        return RewardExam(asked, given, session.policy, tokens, most, words)
    ask = asking(session, version, rundir, asked)
    if not isinstance(source, Given):
        if known is None or carried_of(recipe).refresh is not None:
            return ask
        return PreferenceExam(ask, Divergence(session.policy, known, session.own, sampling, seed, tokens))
    far = Divergence(session.policy, _initial(session, learner), session.own, sampling, seed, tokens)
    return PreferenceExam(ask, far, asked, given, most)
