"""Hostile programs: none gets out of the tier that is claimed, none forges a verdict, nothing of them stays."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from klimb.errors import RewardError
from klimb.rewards.base import Scorer
from klimb.rewards.code import Code
from klimb.rewards.sandbox.box import Box, Limits
from klimb.rewards.sandbox.run import Ended, run
from klimb.rewards.sandbox.tiers import open_box
from tests.rewards.probes import FORGED, HARD, QUICK, START
from tests.rewards.words import asked, said

SECONDS = 2.0
NAME = f"klimbprobe{os.getpid() % 10000}"
LATE = {"endless forks", "busy", "deaf", "closed descriptors", "huge errors"}


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    try:
        with open_box("namespaces", Limits(seconds=20.0)) as opened:
            yield opened
    except RewardError as error:
        pytest.skip(f"no tier namespaces on this machine: {error.found}")


@pytest.fixture(scope="module", params=["namespaces", "limits"])
def score(request: pytest.FixtureRequest) -> Iterator[Scorer]:
    try:
        with Code(tier="namespaces", deadline=20).open() as scorer:
            if request.param == "limits":
                pytest.MonkeyPatch().setattr(scorer, "_box", Box("limits", "", Limits(seconds=20.0)))
            yield scorer
    except RewardError as error:
        pytest.skip(f"no tier namespaces on this machine: {error.found}")


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("secret") / f"{NAME}.txt"
    file.write_text("the secret", "utf-8")
    os.environ["KLIMB_CANARY"] = "the secret"
    yield file
    del os.environ["KLIMB_CANARY"]


def tried(box: Box, deed: str, secret: Path) -> Ended:
    """The probe's end, with a listener on a port and on a socket of the unix kind."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0{NAME}")
        local.listen()
        for word, value in {
            "PARENT": os.getpid(),
            "PORT": server.getsockname()[1],
            "SECRET": secret,
            "NAME": NAME,
        }.items():
            deed = deed.replace(word, str(value))
        return run(box, "program", START + deed + "\nprint('tried')")


def left_over() -> list[str]:
    """Processes of a probe that are not dead."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = file.read_text("utf-8", "replace").rpartition(")")
            if NAME in name and rest.split()[0] not in "ZX":
                found.append(name)
    return found


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "walk" else ()) for n in QUICK])
def test_nothing_gets_out(name: str, box: Box, secret: Path) -> None:
    ended = tried(box, QUICK[name], secret)
    assert ended.stood
    assert b"ESCAPED" not in ended.out
    assert b"tried" in ended.out or ended.status != 0, ended


@pytest.mark.slow
@pytest.mark.parametrize("name", HARD)
def test_what_takes_all_it_can_is_ended_in_time_and_leaves_nothing(name: str, box: Box, secret: Path) -> None:
    start = time.monotonic()
    ended = tried(replace(box, limits=Limits(seconds=SECONDS)), HARD[name], secret)
    assert time.monotonic() - start < SECONDS + 1.0
    assert ended.stood
    assert b"ESCAPED" not in ended.out
    assert ended.late is (name in LATE), ended
    assert not left_over()


def test_there_are_forty_probes_of_escape_and_that_they_can_fail(secret: Path) -> None:
    assert len(QUICK) + len(HARD) >= 40
    open_field = Box("limits", "", Limits(seconds=20.0))
    found = {name: tried(open_field, QUICK[name], secret).out for name in ("network", "secret file", "other processes")}
    assert all(b"ESCAPED" in out for out in found.values()), found


OPEN = ("network", "unix socket", "secret file", "symbolic link", "passwords", "other processes", "kill parent")
"""Probes that get what they want wherever nothing holds them. What would harm the machine is tried in the box alone."""
OPEN_TO_ROOT = ("home", "parent memory", "parent maps")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPEN, *OPEN_TO_ROOT])
def test_without_the_box_a_probe_that_harms_nothing_escapes(name: str, secret: Path) -> None:
    if name in OPEN_TO_ROOT and os.geteuid() != 0:
        pytest.skip("only root gets it without a box")
    assert b"ESCAPED" in tried(Box("limits", "", Limits(seconds=20.0)), QUICK[name], secret).out


@pytest.mark.parametrize("name", FORGED)
def test_no_verdict_is_forged(name: str, score: Scorer) -> None:
    tests = asked(tests=["assert f(1) == 97531", "assert f(2) == '97531'", "assert f(3) is None"])
    pairs = asked(tests=[{"input": "1", "output": "97531 and more"}])
    found = score([tests, pairs], [said(FORGED[name])] * 2)
    assert [one.value for one in found] == [0.0, 0.0], found


def test_the_box_is_clean_for_every_run(box: Box) -> None:
    assert run(box, "program", "open('/tmp/left', 'w').write('x'); print('ok')").out == b"ok\n"
    assert run(box, "program", "import os; print(sorted(os.listdir('/tmp')))").out == b"['calls.py', 'main.py']\n"


def test_the_lower_tier_leaves_no_files_and_no_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    deed = "os.makedirs('a/b'); os.symlink('/', 'a/l'); os.chmod('a', 0)\n" + HARD["daemon"].replace("NAME", NAME)
    ended = run(Box("limits", "", Limits(seconds=20.0)), "program", START + deed)
    assert ended.stood
    assert not list(tmp_path.iterdir())
    assert not left_over()
