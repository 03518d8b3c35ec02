"""Recorded completions: found by prompt, or a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from klimb.errors import DataError, GenerationError
from klimb.generation.base import Request, Sampling
from klimb.generation.replay import Replay
from klimb.rollouts import write
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Transform


def rollout(k: int, seed: int) -> Rollout:
    return Rollout(Completion((k + 1, 2), (-0.5, -0.25), f"text {k}", Finish.EOS), k, seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    one = Group(Prompt("a", text="", tokens=(1, 2)), tuple(rollout(k, 100 + k) for k in range(3)))
    late = Group(Prompt("a", text="", tokens=(1, 2)), (rollout(7, 200),))
    cool = Group(Prompt("b", text="", tokens=(9,)), (rollout(0, 1),), Transform(0.5))
    write(tmp_path / "step-000001.parquet", [one, cool], 1)
    write(tmp_path / "step-000002.parquet", [late], 2)
    return tmp_path


def texts(folder: Path, *requests: Request) -> list[list[str]]:
    with Replay(path=folder).open(None) as sampler:  # type: ignore[arg-type]
        return [[c.text for c in row] for row in sampler.sample(requests, Sampling())]


def test_recorded_seeds_get_their_own_completions_in_any_order(folder: Path) -> None:
    assert texts(folder, Request((1, 2), (200, 101))) == [["text 7", "text 1"]]


def test_other_seeds_get_the_completions_in_the_order_they_were_recorded(folder: Path) -> None:
    assert texts(folder, Request((1, 2), (1, 2, 3, 4)), Request((1, 2), (5,))) == [
        ["text 0", "text 1", "text 2", "text 7"],
        ["text 0"],
    ]


@pytest.mark.parametrize(
    ("request_", "sampling", "found"),
    [
        (Request((1, 2, 3), (1,)), Sampling(), r"no prompt with its 3 tokens \(1, 2, 3"),
        (Request((1, 2), (1, 2, 3, 4, 5)), Sampling(), "5 recorded completions for request 0; found: 4 in"),
        (Request((9,), (1,)), Sampling(), "temperature 0.5"),
        (Request((1, 2), (1,)), Sampling(max_tokens=1), "at most 1 tokens; found: one of 2"),
    ],
)
def test_what_is_not_in_the_recording_is_said(request_: Request, sampling: Sampling, found: str, folder: Path) -> None:
    opening = Replay(path=folder).open(None)  # type: ignore[arg-type]
    with opening as sampler, pytest.raises(GenerationError, match=found):
        sampler.sample([request_], sampling)


def test_an_empty_folder_and_a_broken_file_are_said_on_opening(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.parquet file"), Replay(path=tmp_path).open(None):  # type: ignore[arg-type]
        pass
    (tmp_path / "step-000001.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a Parquet file"), Replay(path=tmp_path).open(None):  # type: ignore[arg-type]
        pass
    with pytest.raises(DataError, match="absent"), Replay(path=tmp_path / "absent").open(None):  # type: ignore[arg-type]
        pass
