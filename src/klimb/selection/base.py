"""What every token selector is: it narrows the learning tokens, once for each optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.config import Settings
from klimb.errors import KlimbError

if TYPE_CHECKING:
    from klimb.batch import Batch
    from klimb.shapes import PerToken, RowGroups, TokenMask, TokenRows


class EntropyOf(Settings):
    """Whose entropy ranks the tokens, and at which temperature."""

    of: Literal["sampling", "current"] = "sampling"
    """sampling = what the sampler recorded, of the policy that drew the batch, at no cost; current = of the policy as
    it is before each update, by a forward pass of its own (the paper's; the same weights at the first update)."""
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    """The temperature of the distribution that is meant; unset = that of sampling, and no other with of=sampling."""

    def faults(self) -> list[KlimbError]:
        """The sampler records the entropy at its own temperature only."""
        if self.temperature is None or self.of == "current":
            return []
        found = "entropy.of=sampling, which the sampler recorded at its own temperature"
        return [KlimbError(f"entropy.temperature={self.temperature:g}", found, "entropy.of=current")]


class Selector(Settings):
    """Chooses which of the learning tokens learn."""

    type: str
    normaliser: Literal["kept", "all"] = "kept"
    """Over which tokens the objective's weights are made: those that are kept (2506.01939 v2 and its code), or all that
    could learn (its v1, TRL): then each kept token weighs `share` times as much as under `kept`."""

    kl: Literal["all", "kept"] = "all"
    """On which tokens a KL that is a term of the loss acts: on all that could learn, with the weights that they have
    without a selector (the authors' code, TRL), so that it stays the KL that the objective states; or on those that are
    kept, as all else. A KL in the reward is of whole answers either way."""

    @property
    def narrows(self) -> bool:
        """Whether this can leave out a token at all."""
        return True

    @property
    def ranks_by(self) -> EntropyOf | None:
        """Whose entropy `batch.entropy` must hold for `keep`; None where it is not read."""
        return None

    @property
    def by_parts(self) -> bool:
        """Whether `keep` needs to know in which part of the whole step each token is."""
        return False

    def keep(self, batch: Batch, parts: TokenRows | None = None) -> TokenMask:
        """The tokens that learn: a subset of `batch.learn`, decided on the whole optimizer step.

        `parts[t]` is the number of the token's part of the whole step, where `by_parts`. Every rank must call this.
        """
        raise NotImplementedError

    def threshold(self, entropy: PerToken, keep: TokenMask) -> float | None:
        """The entropy at which the kept tokens of a step end; None where there is no such thing."""
        return None

    def conflicts(self, kl_place: str) -> list[KlimbError]:
        """What does not go together with where an objective has its KL."""
        if kl_place != "clip" or self.kl == "kept" or not self.narrows:
            return []
        asked = "leave the KL on all tokens (selector.kl=all)"
        found = "a KL inside the objective's clip, where it is one with the term of a kept token"
        return [KlimbError(asked, found, "selector.kl=kept, or objective.kl=outside")]


class Share(Selector):
    """Exactly a share of the tokens of each population: k = ceil(share n), ties broken by a seeded hash."""

    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """rho: how much of each population is kept."""
    population: Literal["batch", "micro", "row"] = "batch"
    """Among which tokens they are ranked: all of an optimizer step; each part that
    `training.micro_tokens` cuts of the whole step, before rows without a gradient leave (as the paper's code does; the
    result then depends on it); each completion."""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    """Breaks ties (and draws, for type random), by the completion's name and the token's place in it."""

    @property
    def by_parts(self) -> bool:
        return self.population == "micro"

    def of_largest(self, batch: Batch, values: PerToken, parts: TokenRows | None) -> TokenMask:
        """The share with the highest values, in each population."""
        ties = self.dice(batch)
        if self.population == "batch":
            return _over_ranks(batch.learn, values, ties, self.share)
        pool, pools = batch.row, batch.rows
        if self.population == "micro":
            if parts is None:
                raise ValueError("population=micro needs the micro-batch of each token")
            pool, pools = parts, int(parts.max()) + 1 if parts.numel() else 0
        return F.selection.largest(values, batch.learn, pool, pools, self.share, ties)

    def dice(self, batch: Batch) -> RowGroups:
        """A pseudo-random number for each token, of the seed, its row's name and its place in the row."""
        import torch

        key = torch.arange(batch.rows, device=batch.row.device) if batch.key is None else batch.key
        return F.selection.dice(self.seed, key[batch.row], F.selection.places(batch.row, batch.rows))


def entropy_of(batch: Batch) -> PerToken:
    """The entropies that rank. Raises ValueError where they are not there."""
    if batch.entropy is None:
        raise ValueError("the batch has no `entropy`: it is filled before tokens are selected")
    return batch.entropy


def _over_ranks(learn: TokenMask, values: PerToken, ties: RowGroups, share: float) -> TokenMask:
    """The share of all ranks' learning tokens: what is this rank's. No return before the ranks have told each other."""
    import torch

    from klimb.ranks import everyone

    all_values, mine = everyone(values[learn])
    all_ties, _ = everyone(ties[learn])
    one = torch.zeros_like(all_ties)
    chosen = F.selection.largest(all_values, torch.ones_like(one, dtype=torch.bool), one, 1, share, all_ties)
    keep = learn.clone()
    keep[learn] = chosen[mine]
    return keep
