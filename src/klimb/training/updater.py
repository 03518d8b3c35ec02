"""What every optimizer is to the training step, the checkpoint and the run; and the one that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from klimb.errors import CheckpointError
from klimb.training.base import ScheduleFree

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from klimb.training.base import AdamW

P = ParamSpec("P")
T = TypeVar("T")


class Updater(Protocol):
    """An optimizer over named parameters, which hold the point that samples, that is scored and that gets gradients."""

    count: int

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights that learn, by name."""
        ...

    @property
    def master(self) -> Mapping[str, Tensor]:
        """The float32 weights that a checkpoint's `model/` holds, by name."""
        ...

    def begin(self, parts: int) -> None:
        """Clears the gradients before a step that will be made of `parts` backward passes."""
        ...

    def clear(self) -> None:
        """Forgets every gradient."""
        ...

    def gradients(self) -> dict[str, Tensor]:
        """The gradient of each parameter that has one, in its dtype."""
        ...

    def gradient(self, name: str) -> Tensor:
        """The gradient of a parameter, to add to in place, in a step that began; zeros where it has none yet."""
        ...

    def bad_gradients(self) -> list[str]:
        """The names of the parameters whose gradient is not finite."""
        ...

    def norm(self) -> float:
        """The norm of the whole gradient."""
        ...

    def step(self, lr: float, norm: float) -> None:
        """One update with the gradients that are there, scaled to a norm of at most `clip`; then forgets them."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What is needed beside `master` to go on to the same bits, by name, for a safetensors file."""
        ...

    def restore(
        self, master: Mapping[str, Tensor], moments: Mapping[str, Tensor], count: int, anew: Collection[str] = ()
    ) -> None:
        """Puts a saved state back, in place. Raises KeyError where it is that of another optimizer.

        The parameters that are `anew` have no moments in it. Raises CheckpointError where there can be none such.
        """
        ...


def open_updater(settings: AdamW | ScheduleFree, named: Iterable[tuple[str, Tensor]]) -> Updater:
    """The optimizer that the settings name, over the parameters that learn."""
    if isinstance(settings, ScheduleFree):
        from klimb.training.schedule_free import MasterScheduleFree

        return MasterScheduleFree(named, settings)
    from klimb.training.optimizer import MasterAdamW

    return MasterAdamW(named, settings)


def not_averaged(lacking: str) -> CheckpointError:
    """The error where a checkpoint of an average over all weights has none of one that learns."""
    return CheckpointError(
        "begin some weights anew under optimizer.type=schedule_free",
        f"the checkpoint has no {lacking}, and one average over all weights",
        "a checkpoint of a run that had them, or a run of its own without --fork",
    )


def another_optimizer(folder: Path, fault: str) -> CheckpointError:
    """The error where a checkpoint's moments are those of another optimizer."""
    return CheckpointError(
        f"load the checkpoint {folder}",
        f"its optimizer's state {fault}: it is that of another optimizer",
        "use the optimizer.type that the run began with",
    )


def averaged(updater: Updater) -> AbstractContextManager[bool]:
    """Inside, the parameters hold the weights that are evaluated; says whether those are others than in training."""
    at: Callable[[], AbstractContextManager[bool]] | None = getattr(updater, "averaged", None)
    return nullcontext(False) if at is None else at()


def at_average(updater: Updater, ask: Callable[P, T], moved: Callable[[], None]) -> Callable[P, T]:
    """`ask` on the weights that are to be evaluated; `moved` is called whenever the parameters change."""

    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        with averaged(updater) as others:
            if others:
                moved()
            found = ask(*args, **kwargs)
        if others:
            moved()
        return found

    return asked
