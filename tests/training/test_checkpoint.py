"""Checkpoints: whole or not there, and every broken one is found and named."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from klimb.errors import CheckpointError
from klimb.training import checkpoint


def writer(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").write_bytes(content * 3000)
        (folder / "model" / "config.json").write_bytes(b'{"a": 1}' + content)
        (folder / "optimizer.safetensors").write_bytes(bytes(reversed(content)) * 3000)
        (folder / "state.json").write_bytes(content)

    return write


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(bytes(data))


def truncate(path: Path, dice: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: dice.randrange(len(data))])


def remove(path: Path, dice: random.Random) -> None:
    path.unlink()


def zero(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = dice.randrange(len(data))
    size = min(4096, len(data) - start)
    data[start : start + size] = bytes(size)
    path.write_bytes(bytes(data))


def swap(path: Path, dice: random.Random) -> None:
    others = [file for file in sorted(path.parents[0].rglob("*")) if file.is_file() and file != path]
    others += [file for file in path.parents[1].glob("*.*") if file.is_file() and file != path]
    other = dice.choice(others)
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def test_200_corruptions_are_all_found_named_and_the_newest_good_checkpoint_is_used(tmp_path: Path) -> None:
    dice = random.Random(5)
    good = checkpoint.save(tmp_path, 1, writer(b"older bytes"))
    fresh = checkpoint.save(tmp_path, 2, writer(b"newer bytes"))
    safe = shutil.copytree(fresh, tmp_path / "kept-apart")
    for _ in range(40):
        for damage in (flip, truncate, remove, zero, swap):
            files = sorted(path for path in fresh.rglob("*") if path.is_file())
            victim = dice.choice(files)
            before = {path: path.read_bytes() for path in files}
            damage(victim, dice)
            changed = {path.name for path in files if not path.exists() or path.read_bytes() != before[path]}
            found, broken = checkpoint.newest(tmp_path)
            if not changed:
                assert found == fresh, "zeroing what was zero, or swapping equal files, damages nothing"
                continue
            assert found == good, damage.__name__
            assert [one.path for one in broken] == [fresh]
            assert any(name in broken[0].why for name in changed), (broken[0].why, changed)
            shutil.rmtree(fresh)
            shutil.copytree(safe, fresh)
            assert checkpoint.newest(tmp_path) == (fresh, [])


def test_a_checkpoint_in_the_folder_of_another_step_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 3, writer(b"abc"))
    moved = path.rename(tmp_path / checkpoint.name_of(4))
    with pytest.raises(CheckpointError, match="holds step 3"):
        checkpoint.verified(moved)


class Crash(Exception):
    """The moment at which the machine stopped."""


def crash_at(monkeypatch: pytest.MonkeyPatch, point: int) -> Callable[[], int]:
    """Makes operation number `point` on the file system fail; returns how many were begun."""
    begun = 0

    def guard(real: Callable[..., object]) -> Callable[..., object]:
        def operation(*args: object, **kwargs: object) -> object:
            nonlocal begun
            begun += 1
            if begun == point:
                raise Crash
            return real(*args, **kwargs)

        return operation

    for holder, name in (
        (os, "fsync"),
        (os, "rename"),
        (Path, "mkdir"),
        (Path, "write_bytes"),
        (Path, "write_text"),
        (shutil, "rmtree"),
    ):
        monkeypatch.setattr(holder, name, guard(getattr(holder, name)))
    return lambda: begun


@pytest.mark.parametrize("again", [False, True], ids=["a new step", "the same step again"])
def test_every_crash_point_of_a_save_leaves_the_old_or_the_new_state(tmp_path: Path, again: bool) -> None:
    seen: set[str] = set()
    point, finished = 0, False
    while not finished:
        point += 1
        folder = tmp_path / str(point)
        checkpoint.save(folder, 1, writer(b"first"))
        checkpoint.save(folder, 2, writer(b"second"))
        step, content = (2, b"second") if again else (3, b"third")
        with pytest.MonkeyPatch.context() as patch:
            begun = crash_at(patch, point)
            try:
                checkpoint.save(folder, step, writer(content))
                checkpoint.prune(folder, 2)
            except Crash:
                pass
            finished = begun() < point
        found, _ = checkpoint.newest(folder)
        assert found is not None
        state = (found / "state.json").read_bytes()
        assert state == {1: b"first", 2: b"second", 3: b"third"}[int(found.name[-6:])]
        seen.add(state.decode())
        checkpoint.save(folder, 4, writer(b"afterwards"))
        assert checkpoint.newest(folder)[0] == folder / checkpoint.name_of(4)
        assert not list(folder.glob("tmp-*"))
    assert point > 12
    assert seen == ({"second", "first"} if again else {"second", "third"})


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, step, writer(b"x" * step))
    checkpoint.prune(tmp_path, 2)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-000004", "step-000005"]


def test_pruning_never_removes_what_was_just_saved_and_copies_by_hand_are_no_checkpoints(tmp_path: Path) -> None:
    broken = checkpoint.save(tmp_path, 40, writer(b"later"))
    (broken / "state.json").unlink()
    shutil.copytree(broken, tmp_path / "step-000040-best")
    checkpoint.set_aside(checkpoint.newest(tmp_path)[1][0])
    kept = checkpoint.save(tmp_path, 20, writer(b"fresh"))
    checkpoint.prune(tmp_path, 1)
    assert checkpoint.newest(tmp_path) == (kept, [])
    assert (tmp_path / "broken-step-000040").is_dir()
    assert (tmp_path / "step-000040-best").is_dir()


def test_a_full_disk_is_one_error_that_leaves_the_last_state_and_no_rubbish(tmp_path: Path) -> None:
    good = checkpoint.save(tmp_path, 1, writer(b"good"))

    def full(folder: Path) -> None:
        (folder / "half").write_bytes(b"x" * 1000)
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.save(tmp_path, 2, full)
    assert checkpoint.newest(tmp_path) == (good, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001"]


def test_a_file_that_cannot_be_read_makes_a_broken_checkpoint_not_a_crash(tmp_path: Path) -> None:
    good = checkpoint.save(tmp_path, 1, writer(b"good"))
    other = checkpoint.save(tmp_path, 2, writer(b"other"))
    (other / "state.json").unlink()
    (other / "state.json").symlink_to("nowhere")
    found, broken = checkpoint.newest(tmp_path)
    assert found == good
    assert "cannot be read" in broken[0].why
