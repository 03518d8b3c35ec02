"""The opened bandit over reward sources: chooses, sees what the choices were worth, and learns at the step's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from klimb.bandits.base import chooser, forgive, owe, repaid
from klimb.bandits.contexts import batch_mean, projected, projection, with_constant
from klimb.bandits.delayed import lend, nothing_owed, settle
from klimb.bandits.gains import HeldOut, Seen, no_history, saturated
from klimb.bandits.keeping import Kept
from klimb.bandits.linear import Linear, width
from klimb.bandits.state import Vector
from klimb.rewards.combining.base import Combiner, Groups, Named, Opening, Rewards, place_of
from klimb.rewards.combining.selected import Selected
from klimb.seeds import seed_of
from klimb.types import Prompt

EMPTY = np.zeros(0)


@dataclass
class Choice:
    """An arm for some prompts of a step, and what was seen of it."""

    arm: int
    context: Vector
    margins: list[float] = field(default_factory=list)
    groups: int = 0


@dataclass
class Turn:
    """What one step has done so far; it counts only once it is over."""

    step: int
    bandit: Any
    """The bandit's state, with the step's choices owed."""
    choices: list[Choice] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)


class Selecting(Combiner):
    """Keeps the bandit's state, the history of gains, and the choices whose gain is not in yet."""

    def __init__(self, settings: Selected, opening: Opening) -> None:
        super().__init__(settings, opening)
        self.own, self.arms = settings, settings.needs(opening.weights)
        self.needed = self.arms
        self.always = frozenset(
            name for name, weight in opening.weights.items() if weight == 0 and name != settings.judge
        )
        self._kept: Kept | None = None
        self._matrix: Any = None
        self._turn: Turn | None = None

    @property
    def keeper(self) -> Selecting:
        return self

    def state(self) -> dict[str, Any]:
        """The bandit's arrays; none before the first step, when the size of a context is not known."""
        return {} if self._kept is None else self._kept.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts them back; their size says how large a context is. Raises KeyError where they are of other arms."""
        self._turn, self._kept = None, None
        if not state:
            return
        gram = state["bandit.gram"]
        if len(state["bandit.count"]) != len(self.arms):
            raise KeyError(f"{len(state['bandit.count'])} arms where there are {len(self.arms)}")
        if self.own.sees == "none":  # an older klimb kept the contexts of bandits that read none, too
            state = {**state, "owed.context": state["owed.context"][:, :0]}
        self._kept = self._begun(int(state["owed.context"].shape[1]) or int(gram.shape[1]))
        self._kept.restore(state)

    def wanted(self, step: int, prompts: Sequence[Prompt], first: int = 0) -> list[frozenset[str]]:
        contexts = self._contexts(prompts)
        if self._kept is None:
            self._kept = self._begun(contexts.shape[1])
        if self._turn is None or first == 0:
            self._turn = Turn(step, self._kept.records["bandit"])
        turn, found = self._turn, []
        for place, prompt in enumerate(prompts):
            if self.own.choice == "group" or not turn.choices:
                context = contexts[place] if self.own.choice == "group" else self._mean(contexts)
                arm = self.own.bandit.choose(turn.bandit, context, chooser(self.opening.seed, step, first + place))
                turn.choices.append(Choice(arm, context))
                turn.bandit = owe(turn.bandit, arm)
            turn.choices[-1].groups += 1
            judge = {self.own.judge} if self.judges(prompt) else set()
            found.append(self.always | {self.arms[turn.choices[-1].arm]} | judge)
        return found

    def judges(self, prompt: Prompt) -> bool:
        """Whether the judge is asked about this prompt."""
        return bool(self.own.judge) and seed_of("judged", self.opening.seed, prompt.id) < self.own.share * 2**63

    def rewards(self, step: int, prompts: Sequence[Prompt], groups: Groups, first: int = 0) -> Rewards:
        assert self._turn is not None
        turn, found = self._turn, []
        for place, (prompt, group) in enumerate(zip(prompts, groups, strict=True)):
            choice = turn.choices[first + place if self.own.choice == "group" else 0]
            name = self.arms[choice.arm]
            where = [place_of(prompt, first + place, k) for k in range(len(group))]
            made = [self._value(name, step, at, named) for at, named in zip(where, group, strict=True)]
            truth = [self._value(self.own.judge, step, at, named) for at, named in zip(where, group, strict=True)]
            turn.judged += [value for value in truth if value is not None]
            both = [(a, b) for a, b in zip(made, truth, strict=True) if a is not None and b is not None]
            if (agreed := margin(np.array(both).reshape(-1, 2))) is not None:
                choice.margins.append(agreed)
            found.append(made)
        return found

    def observe(self, step: int, loss: float | None) -> dict[str, float]:
        if self._turn is None or self._kept is None:
            return {}
        turn, self._turn = self._turn, None
        told = {f"bandit/share_{name}": self._share(turn, arm) for arm, name in enumerate(self.arms)}
        if isinstance(self.own.bandit, Linear):
            bandit = self._kept.records["bandit"]
            widths = np.array([width(bandit, one.context) for one in turn.choices])
            told["bandit/width"] = fmean(float(row[one.arm]) for row, one in zip(widths, turn.choices, strict=True))
            told |= {f"bandit/width_{name}": float(each) for name, each in zip(self.arms, widths.mean(0), strict=True)}
        gains = self._learn(turn, loss)
        if gains:
            told["bandit/gain"] = fmean(gains)
        raw, gain = self._kept.records["history"].raw, self.own.gain
        if len(raw):
            scaled = np.array([gain.scaled(one, raw) for one in raw])
            told["bandit/saturated"] = saturated(scaled)
        return told

    def _learn(self, turn: Turn, loss: float | None) -> list[float]:
        """The next records; the gains that were learned from."""
        assert self._kept is not None
        bandit, history, owed = (self._kept.records[name] for name in ("bandit", "history", "owed"))
        settings, gains = self.own, []
        judged = fmean(turn.judged) if turn.judged else None
        late = isinstance(settings.gain, HeldOut)
        if late:
            history, gain = settings.gain.measure(history, Seen(held_out=judged))
            for ticket in owed.ticket.tolist():
                bandit, owed = settle(settings.bandit, bandit, owed, ticket, gain)
            gains += [] if gain is None else [gain]
        for place, choice in enumerate(turn.choices):
            if late:
                ticket = (turn.step << 20) + place
                bandit, owed = lend(settings.bandit, bandit, owed, ticket, choice.arm, choice.context)
                continue
            agreed = fmean(choice.margins) if choice.margins else None
            history, gain = settings.gain.measure(history, Seen(loss=loss, margin=agreed))
            bandit = owe(bandit, choice.arm)
            if gain is None:
                bandit = forgive(bandit, choice.arm)
                continue
            bandit = settings.bandit.update(repaid(bandit, choice.arm), choice.arm, gain, choice.context)
            gains.append(gain)
        self._kept.records = {"bandit": bandit, "history": history, "owed": owed}
        return gains

    def _begun(self, dimension: int) -> Kept:
        return Kept(
            bandit=self.own.bandit.begin(len(self.arms), dimension),
            history=no_history(),
            owed=nothing_owed(dimension),
        )

    def _contexts(self, prompts: Sequence[Prompt]) -> Any:
        """A context for each prompt (n, d)."""
        if self.own.sees == "none":
            return np.zeros((len(prompts), 0))
        if self.own.sees == "current":
            assert self.opening.current is not None
            return self.opening.current(prompts)
        assert self.opening.initial is not None
        states = self.opening.initial(prompts)
        if self._matrix is None:
            self._matrix = projection(self.opening.seed, states.shape[1], self.own.size)
        return np.array([with_constant(projected(state, self._matrix)) for state in states])

    def _mean(self, contexts: Any) -> Vector:
        return batch_mean(contexts) if contexts.shape[1] else EMPTY

    def _value(self, name: str, step: int, where: str, named: Named) -> float | None:
        score = named.get(name)
        return None if score is None or score.value is None else score.value + self._noise(name, step, where)

    def _share(self, turn: Turn, arm: int) -> float:
        return sum(one.groups for one in turn.choices if one.arm == arm) / sum(one.groups for one in turn.choices)


def margin(both: Any) -> float | None:
    """The correlation of an arm's scores with the judge's over a prompt's answers (n, 2).

    0 where the arm finds all of them alike and the judge does not; None where the judge tells none apart, which says
    nothing of the arm. To first order a policy-gradient step on the arm's scores moves the judge's mean by their
    covariance.
    """
    if len(both) < 2:
        return None
    apart = both - both.mean(0)
    arm, judge = np.sqrt((apart**2).sum(0)).tolist()
    if judge < 1e-12:
        return None
    return float(apart[:, 0] @ apart[:, 1]) / (arm * judge) if arm > 1e-12 else 0.0
