"""Logs of other systems become rollouts; what cannot is refused or repaired by a written rule, never in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from klimb import rollouts
from klimb.batch import Batch
from klimb.errors import DataError
from klimb.logs.checking import check
from klimb.logs.importing import Imported, import_log
from klimb.logs.rules import REFUSED, RULES, Note
from klimb.policy.policy import Policy
from klimb.types import Finish, Group, Message, Transform
from tests.logs.malformed import EVERY

FILES = {
    "chat": "chat.jsonl",
    "trl": "trl.parquet",
    "verl": "verl.jsonl",
    "slime": "slime.jsonl",
    "openai": "openai.jsonl",
}


def rows_of(root: Path, name: str) -> list[dict[str, Any]]:
    path = root / "tests/data/logs" / FILES[name]
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def taken(
    source: Path, mapping: str, out: Path, tiny: Callable[[str], Policy], **models: str
) -> tuple[Imported, list[Group]]:
    found = import_log(source, mapping, out, tiny, **models)  # type: ignore[arg-type]
    assert check(out).faults == []
    return found, rollouts.read(out)


def sample(root: Path, name: str) -> Path:
    return root / "tests/data/logs" / FILES[name]


def test_a_chat_log_with_thumbs(root: Path, tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    found, groups = taken(sample(root, "chat"), "chat", tmp_path / "a", tiny, tokenizer="tiny")
    assert groups[0].prompt.messages == (Message("system", "Be brief."), Message("user", "What is 2 + 3?"))
    assert [r.completion.text for g in groups for r in g.rollouts] == ["5", "6", "8", "9", "8", "9"]
    assert [r.reward for g in groups for r in g.rollouts] == [1.0, 0.0, 1.0, 0.0, None, 0.0]
    assert (groups[0].version, groups[0].transform) == ("helper-3", Transform(known=False))
    assert {note.rule for note in found.notes} == {"later-turns", "joined-parts", "no-score", "added-end"}
    assert (found.completions, found.groups, found.logged, found.scored) == (6, 3, 0, 5)


def test_a_table_of_completions_from_trl(root: Path, tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    found, groups = taken(sample(root, "trl"), "trl", tmp_path / "a", tiny)
    assert found.shares == {"correct": 1.0, "short": 1.0}
    assert [g.prompt.text for g in groups] == ["2+3=", "4+4=", "7+1="]
    first = groups[0].rollouts[0]
    assert {name: score.value for name, score in first.scores.items()} == {"correct": 1.0, "short": 1.0}
    assert (first.reward, first.completion.tokens, first.completion.logps) == (2.0, (), ())
    assert rollouts.read_table(tmp_path / "a").column("step").to_pylist() == [10] * 6


def test_each_answer_has_a_seed_of_its_own_that_the_next_import_gives_again(
    root: Path, tmp_path: Path, tiny: Callable[[str], Policy]
) -> None:
    """A seed shared by all rows would make a random choice of tokens the same in every row."""
    seeds = [
        [
            rollout.seed
            for group in taken(sample(root, "trl"), "trl", tmp_path / name, tiny)[1]
            for rollout in group.rollouts
        ]
        for name in "ab"
    ]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 6 and min(seeds[0]) >= 0
    batch = Batch.of(rollouts.read(tmp_path / "a"))
    assert batch.key is not None and batch.key.tolist() == seeds[0]


def test_a_rollout_dump_from_verl(root: Path, tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    _, groups = taken(sample(root, "verl"), "verl", tmp_path / "a", tiny)
    assert [g.prompt.answer for g in groups] == ["5", "8", "8"]
    assert [r.reward for r in groups[1].rollouts] == [1.0, 0.0]


def test_samples_from_slime_keep_log_probs_once_the_transform_is_known(
    root: Path, tmp_path: Path, tiny: Callable[[str], Policy]
) -> None:
    found, _ = taken(sample(root, "slime"), "slime", tmp_path / "a", tiny)
    assert (found.logged, found.by_rule("repaired")["logps-transform"]) == (0, 6)
    (tmp_path / "m.yaml").write_text("base: slime\ntemperature: 0.9\ntop_p: 1.0\ntop_k: 0\n")
    found, groups = taken(sample(root, "slime"), str(tmp_path / "m.yaml"), tmp_path / "b", tiny, tokenizer="tiny")
    assert (found.logged, found.notes) == (6, [])
    first = groups[0].rollouts[0].completion
    assert (first.logps, first.finish, first.tokens[-1]) == ((-0.5, -0.75), Finish.EOS, 2)
    assert groups[0].prompt.tokens[0] == 1
    assert groups[0].transform == Transform(0.9)
    assert groups[2].rollouts[1].completion.finish is Finish.LENGTH


def test_responses_with_log_probs_by_piece(root: Path, tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    found, groups = taken(sample(root, "openai"), "openai", tmp_path / "a", tiny, tokenizer="tiny")
    assert (found.rows, found.completions, found.logged, found.notes) == (3, 6, 6, [])
    assert groups[0].rollouts[1].completion.logps == pytest.approx((-0.3,))
    assert groups[0].rollouts[1].completion.finish is Finish.STOP
    without, _ = taken(sample(root, "openai"), "openai", tmp_path / "b", tiny)
    assert (without.logged, without.by_rule("repaired")["logps-no-tokens"]) == (0, 6)


def test_missing_log_probs_are_estimated_by_a_named_model_and_marked(
    root: Path, tmp_path: Path, tiny: Callable[[str], Policy]
) -> None:
    found, groups = taken(sample(root, "trl"), "trl", tmp_path / "a", tiny, estimate="tiny")
    done = [r.completion for g in groups for r in g.rollouts]
    assert (found.estimated, found.logged, found.gap) == (6, 0, None)
    assert {one.estimated for one in done} == {"tiny"}
    assert all(len(one.logps) == len(one.tokens) == 2 and max(one.logps) < 0 for one in done)
    assert found.mean_estimate == pytest.approx(sum(sum(one.logps) for one in done) / 12)
    assert found.unlikely == 0.0
    found, groups = taken(sample(root, "openai"), "openai", tmp_path / "b", tiny, estimate="tiny")
    assert (found.estimated, found.logged) == (0, 6)
    assert found.gap is not None
    assert 4 < found.gap < 7
    assert found.mean_estimate is None


def test_estimates_are_measured_where_nothing_was_cut_off_and_their_unlikely_tokens_are_counted(
    root: Path, tmp_path: Path, tiny: Callable[[str], Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.yaml").write_text("base: slime\ntemperature: 1.0\ntop_p: 0.9\ntop_k: 0\n")
    rows = rows_of(root, "slime")
    rows[0]["rollout_log_probs"] = None
    (tmp_path / "log").write_text("\n".join(json.dumps(row) for row in rows))
    found, groups = taken(tmp_path / "log", str(tmp_path / "m.yaml"), tmp_path / "out", tiny, estimate="tiny")
    assert (found.logged, found.estimated, found.gap, found.unlikely) == (5, 1, None, 0.0)
    logps = next(r.completion.logps for g in groups for r in g.rollouts if r.completion.estimated)
    monkeypatch.setattr("klimb.logs.importing.UNLIKELY", sum(logps) / 2)
    found, _ = taken(tmp_path / "log", str(tmp_path / "m.yaml"), tmp_path / "out", tiny, estimate="tiny")
    assert found.unlikely == 0.5


def spoiled(root: Path, tmp_path: Path, base: str, change: Any) -> Path:
    """A log of which the second row is malformed and the others are good."""
    lines = [json.dumps(row) for row in rows_of(root, base)]
    lines[1] = change if isinstance(change, str) else json.dumps(change(json.loads(lines[0])))
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "log.jsonl"


@pytest.mark.parametrize(("base", "index", "change", "rule"), EVERY, ids=[f"{b}-{i}-{r}" for b, i, _, r in EVERY])
def test_a_malformed_row_is_refused_or_repaired_by_its_rule(
    root: Path, tmp_path: Path, tiny: Callable[[str], Policy], base: str, index: int, change: Any, rule: str
) -> None:
    source, mapping = spoiled(root, tmp_path, base, change), base
    if base == "slime":
        mapping = str(tmp_path / "m.yaml")
        (tmp_path / "m.yaml").write_text("base: slime\ntemperature: 1.0\ntop_p: 1.0\ntop_k: 0\n")
    elif rule == "logps-count" and base == "chat":
        mapping = str(tmp_path / "m.yaml")
        (tmp_path / "m.yaml").write_text("base: chat\ntop_p: 1.0\ntop_k: 0\n")
    found, groups = taken(source, mapping, tmp_path / "out.parquet", tiny, tokenizer="tiny")
    named = [note for note in found.notes if note.row == 2 and note.rule == rule]
    assert named, [(note.row, note.rule, note.found) for note in found.notes]
    kept = sum(len(group.rollouts) for group in groups)
    per_row = 2 if base == "openai" else 1
    lost = sum(note.row == 2 and RULES[note.rule].action == REFUSED for note in found.notes)
    whole_row = per_row if rule == "not-a-row" or lost == per_row or named[0].field == "response.choices" else lost
    assert kept == len(rows_of(root, base)) * per_row - whole_row
    assert set(named[0].record()) == {"row", "field", "rule", "action", "asked", "found", "cure"}
    assert "\n" not in named[0].found


def test_there_are_at_least_sixty_malformed_rows_and_every_rule_is_used() -> None:
    assert len(EVERY) >= 60
    assert {rule for _, _, _, rule in EVERY} | {"logps-no-tokens", "bad-field", "bad-column"} == set(RULES)


def test_a_field_that_is_no_id_is_refused(root: Path, tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    (tmp_path / "m.yaml").write_text("base: trl\nid: step\n")
    source = tmp_path / "log.jsonl"
    rows = rows_of(root, "trl")
    source.write_text("\n".join(json.dumps({**row, "step": [1]} if i else row) for i, row in enumerate(rows)))
    found, groups = taken(source, str(tmp_path / "m.yaml"), tmp_path / "a", tiny)
    assert [note.rule for note in found.notes] == ["bad-field"] * 5
    assert groups[0].prompt.id == "10"


@pytest.mark.parametrize("content", [b"\x80\x04data", b"PK\x03\x04zip", b"PAR1 broken", b'[{"a": 1},', b"\xff\xfea\0"])
def test_a_file_that_is_no_log_is_one_clear_error(
    tmp_path: Path, tiny: Callable[[str], Policy], content: bytes
) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(DataError) as caught:
        import_log(tmp_path / "log", "chat", tmp_path / "out", tiny)
    assert caught.value.cure
    assert not (tmp_path / "out").exists()


def test_no_usable_row_is_an_error_that_names_the_reasons(tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    (tmp_path / "log").write_text('{"messages": []}\n' * 3)
    notes: list[Note] = []
    with pytest.raises(DataError, match=r"bad-turns \(3\); first: row 1"):
        import_log(tmp_path / "log", "chat", tmp_path / "out", tiny, notes=notes)
    assert len(notes) == 3
    assert not (tmp_path / "out").exists()


def test_klimbs_own_rollouts_need_no_import(root: Path, tmp_path: Path, tiny: Callable[[str], Policy]) -> None:
    with pytest.raises(DataError, match="klimb logs check"):
        import_log(root / "tests/golden/rollouts-2.0.parquet", "chat", tmp_path / "out", tiny)
