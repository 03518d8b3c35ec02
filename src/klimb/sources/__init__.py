"""Sources of experience."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from klimb.sources.answers import Answers
from klimb.sources.hybrid import Hybrid
from klimb.sources.iterative_pairs import IterativePairs
from klimb.sources.labelled import Labelled
from klimb.sources.logged_labels import LoggedLabels
from klimb.sources.logged_pairs import LoggedPairs
from klimb.sources.mixture import Mixture
from klimb.sources.online import Online
from klimb.sources.online_pairs import OnlinePairs
from klimb.sources.pairs import Pairs
from klimb.sources.replayed import Replayed
from klimb.sources.successes import Successes

AnySource = Annotated[
    Online
    | OnlinePairs
    | IterativePairs
    | Replayed
    | Hybrid
    | Successes
    | LoggedPairs
    | LoggedLabels
    | Pairs
    | Mixture
    | Labelled
    | Answers,
    Field(discriminator="type"),
]
