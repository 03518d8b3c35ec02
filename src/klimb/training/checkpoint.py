"""Checkpoints that are whole or not there: a temporary folder, fsync, a manifest of hashes, rename (design D8)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from klimb.digests import sha256_of
from klimb.errors import CheckpointError

MANIFEST = "MANIFEST.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Broken:
    """A checkpoint that must not be used, and why."""

    path: Path
    why: str


def name_of(step: int) -> str:
    """The folder of the checkpoint of a step."""
    return f"step-{step:06d}"


def save(folder: Path, step: int, write: Callable[[Path], None]) -> Path:
    """Writes a checkpoint with `write(temporary folder)` and publishes it; a failure leaves what was there before.

    Raises CheckpointError where the disk is full or cannot be written; what was begun is removed.
    """
    try:
        sweep(folder)
        return _publish(folder, step, write)
    except (OSError, SafetensorError) as error:
        sweep(folder)
        raise CheckpointError(
            f"save step {step} in {folder}", str(error), "free some space, then run the same command again"
        ) from error


def sweep(folder: Path) -> None:
    """Removes what saves that never ended have left."""
    for stale in folder.glob("tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)


def _publish(folder: Path, step: int, write: Callable[[Path], None]) -> Path:
    final, temporary = folder / name_of(step), folder / f"tmp-{step:06d}"
    temporary.mkdir(parents=True)
    write(temporary)
    _seal(temporary, step)
    replaced = folder / f"tmp-replaced-{step:06d}"
    if final.exists():
        os.rename(final, replaced)
    os.rename(temporary, final)
    _sync(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def _seal(temporary: Path, step: int) -> None:
    """Writes the manifest of a folder's files, and all of it to the disk."""
    files = {}
    for path in _files(temporary):
        _sync(path)
        files[path.relative_to(temporary).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    text = json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1, sort_keys=True)
    seal = temporary / MANIFEST
    seal.write_text(json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest()}) + "\n" + text)
    _sync(seal)
    for inner in {path.parent for path in _files(temporary)} | {temporary}:
        _sync(inner)


def adopt(origin: Path, folder: Path, without: Collection[str] = ()) -> Path:
    """Copies a verified checkpoint of another run, `without` some of its files, into `folder`, or does nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"tmp-{origin.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(verified(origin), temporary)
    if gone := [temporary / name for name in without if (temporary / name).is_file()]:
        for path in (*gone, temporary / MANIFEST):
            path.unlink()
        _seal(temporary, int(origin.name[5:]))
    for path in [*temporary.rglob("*"), temporary]:
        _sync(path)
    os.rename(temporary, folder / origin.name)
    _sync(folder)
    return verified(folder / origin.name)


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints."""
    for path in steps(folder)[: -keep or None]:
        shutil.rmtree(path)


def steps(folder: Path) -> list[Path]:
    """The published checkpoints, oldest first, whether good or not."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def newest(folder: Path) -> tuple[Path | None, list[Broken]]:
    """The newest checkpoint that verifies, and the newer ones that do not."""
    broken: list[Broken] = []
    for path in reversed(steps(folder)):
        if (why := fault(path)) is None:
            return path, broken
        broken.append(Broken(path, why))
    return None, broken


def verified(path: Path) -> Path:
    """This checkpoint, if it is whole."""
    if (why := fault(path)) is not None:
        raise CheckpointError(f"load the checkpoint {path}", why, "use another checkpoint of this run")
    return path


def set_aside(broken: Broken) -> Path:
    """Renames a broken checkpoint, so that nothing takes it for one; it stays for people to look at."""
    place = broken.path.with_name(f"broken-{broken.path.name}")
    shutil.rmtree(place, ignore_errors=True)
    broken.path.rename(place)
    return place


def fault(path: Path, parts: tuple[str, ...] = ("",)) -> str | None:
    """What is wrong with a checkpoint, in words; None if every byte is as it was written.

    Who reads only some of it names its `parts`, the beginnings of file names: of others only the size is compared.
    """
    try:
        return _fault(path, parts)
    except OSError as error:
        return f"a file cannot be read: {error.filename or error}"


def _fault(path: Path, parts: tuple[str, ...]) -> str | None:
    try:
        head, _, text = (path / MANIFEST).read_text().partition("\n")
        if json.loads(head)["sha256"] != hashlib.sha256(text.encode()).hexdigest():
            return f"{MANIFEST} was changed"
        manifest = json.loads(text)
        expected, said = manifest["files"], manifest["step"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read: {type(error).__name__}"
    if name_of(said) != path.name:
        return f"the folder {path.name} holds step {said}"
    found = {file.relative_to(path).as_posix() for file in _files(path)} - {MANIFEST}
    if found != set(expected):
        missing, extra = sorted(set(expected) - found), sorted(found - set(expected))
        return f"missing files {missing}, unexpected files {extra}"
    return next(_wrong(path, expected, parts), None)


def _wrong(path: Path, expected: dict[str, dict[str, object]], parts: tuple[str, ...]) -> Iterator[str]:
    for name, entry in sorted(expected.items()):
        if (size := (path / name).stat().st_size) != entry["bytes"]:
            yield f"{name} has {size} bytes, not {entry['bytes']}"
        elif name.startswith(parts) and sha256_of(path / name) != entry["sha256"]:
            yield f"the content of {name} was changed"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
