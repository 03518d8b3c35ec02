"""A bandit's state comes back to the bit: from JSON, from safetensors, and after a kill in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from klimb.bandits import UCB1, Bandit, EpsilonGreedy, Exp3, Fixed, LinUCB, Random, RoundRobin, Thompson
from klimb.bandits.base import chooser
from klimb.bandits.delayed import Owed, lend, nothing_owed
from klimb.bandits.gains import History, NegativeLoss, Seen, no_history
from klimb.bandits.keeping import Kept
from klimb.bandits.state import State, arrays, from_json, from_tensors, restored, to_json, to_tensors

EVERY: list[Bandit] = [
    Fixed(), Random(), RoundRobin(), LinUCB(), LinUCB(discount=0.9), Thompson(), Exp3(discount=0.95),
    UCB1(discount=0.5), EpsilonGreedy(),
]  # fmt: skip


def same_bits(one: object, other: object) -> bool:
    ours, theirs = arrays(one), arrays(other)
    return {n: (a.shape, a.tobytes()) for n, a in ours.items()} == {
        n: (a.shape, a.tobytes()) for n, a in theirs.items()
    }


def lived(bandit: Bandit, steps: int = 40) -> State:
    rng, state = np.random.default_rng(0), bandit.begin(3, 4)
    for step in range(steps):
        context = rng.standard_normal(4)
        state = bandit.update(state, bandit.choose(state, context, chooser(0, step)), rng.random() - 0.3, context)
    return state


@pytest.mark.parametrize("bandit", EVERY, ids=lambda bandit: f"{bandit.type}-{bandit.fade}")
def test_the_state_survives_json_and_tensors_to_the_bit(bandit: Bandit) -> None:
    state, start = lived(bandit), bandit.begin(3, 4)
    assert not same_bits(state, start)
    assert same_bits(from_json(start, to_json(state)), state)
    assert same_bits(from_tensors(start, to_tensors(state)), state)


def test_one_bit_of_difference_is_seen() -> None:
    state = lived(LinUCB())
    other = from_json(state, to_json(state))
    other.gram[0, 0, 0] = np.nextafter(other.gram[0, 0, 0], 9.0)
    assert not same_bits(state, other)


def test_json_is_refused_for_what_is_not_finite() -> None:
    state = UCB1().begin(2)
    state.total[0] = np.nan
    with pytest.raises(ValueError, match="JSON"):
        to_json(state)


@pytest.mark.parametrize("other", [LinUCB().begin(3, 5), LinUCB().begin(4, 4), UCB1().begin(3)])
def test_a_state_of_another_size_or_kind_is_refused(other: State) -> None:
    with pytest.raises(KeyError, match="belongs"):
        from_json(LinUCB().begin(3, 4), to_json(other))


def test_missing_arrays_and_other_number_types_are_refused() -> None:
    start = UCB1().begin(2)
    with pytest.raises(KeyError, match="belong"):
        restored(start, {"count": start.count})
    with pytest.raises(KeyError, match="float32"):
        restored(start, arrays(start) | {"count": np.zeros(2, np.float32)})


def test_a_bandit_with_its_history_and_open_choices_goes_through_a_file_of_a_checkpoint(tmp_path: Path) -> None:
    bandit = Exp3()
    state, owed = lend(bandit, lived(bandit), nothing_owed(4), 17, 2, np.arange(4.0))
    history, _ = NegativeLoss().measure(no_history(), Seen(loss=0.3, held_out=0.5))
    kept = Kept(bandit=bandit.begin(3, 4), gains=no_history(), owed=nothing_owed(4))
    kept.records = {"bandit": state, "gains": history, "owed": owed}
    save_file(kept.state(), tmp_path / "bandit.safetensors")
    found = load_file(tmp_path / "bandit.safetensors")
    fresh = Kept(bandit=bandit.begin(3, 4), gains=no_history(), owed=nothing_owed(4))
    fresh.restore(found)
    assert all(same_bits(fresh.records[name], kept.records[name]) for name in kept.records)
    assert isinstance(fresh.records["owed"], Owed) and isinstance(fresh.records["gains"], History)
    fresh.restore(found)  # a run that goes back to its last checkpoint restores over what it has
    assert same_bits(fresh.records["gains"], history)


def test_a_keeper_refuses_the_file_of_another_and_stays_as_it_was() -> None:
    kept, before = Kept(bandit=UCB1().begin(2)), UCB1().begin(2)
    with pytest.raises(KeyError, match="none of"):
        kept.restore({f"critic.{name}": tensor for name, tensor in to_tensors(before).items()})
    with pytest.raises(KeyError, match="belong"):
        kept.restore(Kept(bandit=UCB1().begin(3)).state())
    assert same_bits(kept.records["bandit"], before)


CHILD = """
import sys
from pathlib import Path
import numpy as np
from klimb.atomic import write_atomic
from klimb.bandits import Thompson, Exp3
from klimb.bandits.base import chooser
from klimb.bandits.state import from_json, to_json
bandit = {"thompson": Thompson(discount=0.99), "exp3": Exp3()}[sys.argv[2]]
file, state = Path(sys.argv[1]), bandit.begin(3, 4)
if file.exists():
    state = from_json(state, file.read_text())
for step in range(int(state.count.sum()), int(sys.argv[3])):
    rng = np.random.default_rng([5, step])
    context = rng.standard_normal(4)
    arm = bandit.choose(state, context, chooser(1, step))
    state = bandit.update(state, arm, float(rng.random() * (arm + 1) / 3), context)
    write_atomic(file, to_json(state))
print("torch" in sys.modules)
"""


def child(file: Path, kind: str, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file), kind, str(steps)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("kind", ["thompson", pytest.param("exp3", marks=pytest.mark.slow)])
def test_a_bandit_that_is_killed_in_the_middle_goes_on_to_the_same_bits_without_torch(
    kind: str, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole.json", tmp_path / "broken.json"
    unbroken, killed = child(whole, kind, 80), child(broken, kind, 10**9)
    deadline = time.monotonic() + 60
    while not broken.exists() or sum(json.loads(broken.read_text())["count"]["values"]) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    reached = int(sum(json.loads(broken.read_text())["count"]["values"]))
    assert unbroken.communicate(timeout=60)[0].strip() == "False"
    steps = max(80, reached + 20)
    for file in (whole, broken):
        assert child(file, kind, steps).wait(timeout=60) == 0
    assert broken.read_bytes() == whole.read_bytes()


numbers = st.floats(allow_nan=False, allow_infinity=False)
moves = st.lists(
    st.tuples(st.integers(0, 2), numbers, st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2)), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, len(EVERY) - 1), stream=moves)
def test_extreme_gains_and_contexts_give_no_nan_and_an_arm_that_is_there(
    index: int, stream: list[tuple[int, float, list[float]]]
) -> None:
    bandit = EVERY[index]
    state = start = bandit.begin(3, 2)
    with np.errstate(invalid="raise", over="raise", divide="raise"):
        for step, (arm, gain, context) in enumerate(stream):
            state = bandit.update(state, arm, gain, np.array(context))
            assert bandit.choose(state, np.array(context), chooser(0, step)) in {0, 1, 2}
    assert all(np.isfinite(array).all() for array in arrays(state).values())
    assert same_bits(from_json(start, to_json(state)), state)
