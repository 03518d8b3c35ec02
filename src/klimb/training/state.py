"""All that a run needs to go on: what is written into a checkpoint, and how it is put back."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from safetensors.torch import load_file, save_file
from torch import Tensor

from klimb.errors import CheckpointError
from klimb.training.keeping import Keeper
from klimb.training.updater import Updater, another_optimizer

SaveModel = Callable[[Path, Mapping[str, Tensor]], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, beside its tensors."""

    step: int = 0
    """The last completed step."""
    updates: int = 0
    """How many optimizer updates have been made."""
    bad: int = 0
    """How many steps in a row could not be taken because something was not finite."""
    fingerprint: str = ""
    """The content hash of the data."""
    initial: str = ""
    """The content hash of the weights the run began with, but for an output layer of its own."""
    output: str = ""
    """That of the output layer's own weights; empty where it had none, or is not known."""

    def began_as(self, initial: str, output: str) -> bool:
        """Whether the run began with these weights; an output layer that either side lacks is not compared."""
        return initial == self.initial and (not output or not self.output or output == self.output)


def write(
    folder: Path,
    progress: Progress,
    optimizer: Updater,
    save_model: SaveModel,
    keepers: Mapping[str, Keeper] = MappingProxyType({}),
) -> None:
    """Writes weights (a Hugging Face folder), moments, progress, and a file for each keeper into a folder.

    A parameter `<keeper>.<name>`, such as `critic.weight`, is in its keeper's file, in float32, and not in the model.
    """
    master = optimizer.master
    kept = {
        name: {part: master.get(f"{name}.{part}", held) for part, held in keeper.state().items()}
        for name, keeper in keepers.items()
    }
    elsewhere = _named(kept)
    save_model(folder / "model", {name: w for name, w in master.items() if name not in elsewhere})
    for name, held in {"optimizer": optimizer.state(), **kept}.items():
        save_file({key: tensor.contiguous() for key, tensor in held.items()}, folder / f"{name}.safetensors")
    (folder / "state.json").write_text(json.dumps(asdict(progress), indent=1, sort_keys=True))


def read_progress(folder: Path) -> Progress:
    """The progress that a checkpoint holds."""
    return Progress(**json.loads((folder / "state.json").read_text()))


def restore(
    folder: Path,
    optimizer: Updater,
    keepers: Mapping[str, Keeper] = MappingProxyType({}),
    anew: list[str] | None = None,
    output: Collection[str] = (),
) -> Progress:
    """Puts a checkpoint's weights, moments and keepers back, in place, and returns its progress.

    Where `anew` is a list, a keeper that the checkpoint knows nothing of stays as it begins, and its name is added; so
    does a weight of the `output` layer, which the checkpoint of a model without one lacks.
    """
    progress = read_progress(folder)
    new = [name for name in keepers if anew is not None and not (folder / f"{name}.safetensors").exists()]
    kept = {n: one.state() if n in new else _restore_keeper(folder, n, one) for n, one in keepers.items()}
    master: dict[str, Tensor] = _named(kept)
    for path in sorted((folder / "model").glob("*.safetensors")):
        master |= load_file(path)
    left_out = {} if anew is None else {n: w for n, w in optimizer.master.items() if n in set(output) - set(master)}
    master |= left_out
    if missing := sorted(set(optimizer.master) - set(master)):
        raise CheckpointError(
            f"load the checkpoint {folder}",
            f"no weights for {missing[0]} and {len(missing) - 1} more",
            "use the model settings that the run began with",
        )
    try:
        weights = set(left_out) | (set(_named({name: kept[name] for name in new})) & set(optimizer.master))
        optimizer.restore(master, load_file(folder / "optimizer.safetensors"), progress.updates, weights)
    except KeyError as error:
        raise another_optimizer(folder, f"has no {error}") from error
    if anew is not None:
        anew += [*new, *sorted(left_out)]
    return progress


def _named(kept: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What keepers hold by the names that parameters have: `<keeper>.<name>`."""
    return {f"{keeper}.{name}": tensor for keeper, held in kept.items() for name, tensor in held.items()}


def _restore_keeper(folder: Path, name: str, keeper: Keeper) -> Mapping[str, Tensor]:
    """Puts a keeper's file back, and returns what is in it."""
    file = folder / f"{name}.safetensors"
    try:
        held = load_file(file)
        keeper.restore(held)
    except (KeyError, FileNotFoundError) as error:
        raise CheckpointError(
            f"load the checkpoint {folder}",
            f"{file.name} is missing" if isinstance(error, FileNotFoundError) else f"{file.name} has no {error}",
            "use the settings that the run began with",
        ) from error
    return held
