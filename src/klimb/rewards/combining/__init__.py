"""Ways of making one reward of several sources: each a file, and the union of them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from klimb.bandits.gains import HeldOut
from klimb.errors import KlimbError
from klimb.rewards.combining.agreement import Agreement
from klimb.rewards.combining.base import Combining
from klimb.rewards.combining.ensemble import Least, Mean, Uncertain
from klimb.rewards.combining.gated import Gated
from klimb.rewards.combining.gdpo import Gdpo
from klimb.rewards.combining.normalised import Normalised
from klimb.rewards.combining.scheduled import Scheduled
from klimb.rewards.combining.selected import Selected
from klimb.rewards.combining.selected_paper import SelectedPaper
from klimb.rewards.combining.weighted import Weighted

Sums = Weighted | Scheduled | Normalised | Gdpo | Gated
Ensembles = Mean | Least | Uncertain | Agreement
AnyCombining = Annotated[Sums | Ensembles | Selected | SelectedPaper, Field(discriminator="type")]
PAIRED = ("online_pairs", "iterative_pairs")
"""Sources whose objectives have a loss that says how well what was scored is fitted."""


def misfits(combining: Combining, weights: Mapping[str, float], source: str, *, samples: bool) -> Iterator[KlimbError]:
    """What does not go together with the rewards, by weight, and with the type of the source of experience."""
    kind = getattr(combining, "type", "")
    plain = isinstance(combining, Weighted) and not combining.noise
    if not plain and not samples:
        yield KlimbError(
            f"combine the scores of fresh samples (combining.type={kind})",
            f"source.type={source}, whose rewards are given",
            "combining.type=weighted, or a source that samples: online, hybrid, online_pairs, iterative_pairs",
        )
        return
    yield from combining.conflicts(weights)
    if isinstance(combining, Selected) and source == "hybrid":
        yield KlimbError(
            f"learn what each chosen source is worth (combining.type={kind})",
            "source.type=hybrid: what is replayed was scored by earlier choices",
            "source.type=online",
        )
    elif isinstance(combining, Selected) and _late(combining) and source == "iterative_pairs":
        yield KlimbError(
            "judge what a choice was worth by the next batch (combining.gain.type=held_out)",
            "source.type=iterative_pairs: the next batch was sampled before the choice was learned from",
            "combining.gain.type=margin, or source.type=online_pairs",
        )
    elif isinstance(combining, Selected) and combining.reads_loss and source not in PAIRED:
        yield KlimbError(
            "learn from the training loss (combining.gain.type=negative_loss)",
            f"source.type={source}: a policy gradient's loss is no fit; around a mean it is zero, whatever was chosen",
            "source.type=iterative_pairs with an objective for pairs, as in the paper, or combining.gain.type=margin",
        )


def _late(combining: Selected) -> bool:
    """Whether a choice is judged by the next batch."""
    return combining.learns and isinstance(combining.gain, HeldOut)
