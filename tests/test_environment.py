"""A run says where it was made, and never a secret."""

from __future__ import annotations

import json
import sys

import pytest

from klimb.environment import environment, versions
from klimb.redact import is_secret_name, redact, redact_text, redact_words


def test_the_environment_names_versions_machine_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["klimb", "train", "demo.yaml", "judge.api_key=canary-a", "--token", "canary-b"])
    found = environment()
    assert found["argv"] == ["klimb", "train", "demo.yaml", "judge.api_key=[redacted]", "--token", "[redacted]"]
    assert found["versions"]["torch"] == versions()["torch"]
    assert found["cores"] >= 1
    assert json.loads(json.dumps(found)) == found


def test_no_environment_variable_reaches_the_environment_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "canary-4711-xyz")
    monkeypatch.setenv("HARMLESS", "canary-4712-xyz")
    monkeypatch.setattr(sys, "argv", ["klimb", "train", "run=/data/canary-4711-xyz/run"])
    text = json.dumps(environment())
    assert "canary" not in text
    assert "run=/data/[redacted]/run" in text


@pytest.mark.parametrize(
    "name", ["api_key", "API-KEY", "token", "HF_TOKEN", "--password", "judge.secret", "wandb.apikey", "db_passwd"]
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["max_tokens", "tokens", "tokenizer", "keys", "monkey", "seed", "micro_tokens", "keep"]
)
def test_names_of_other_settings_are_left_alone(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/a", "https://[redacted]@host/a"),
        ("https://host/a?api_key=abc&x=1", "https://host/a?api_key=[redacted]&x=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
        ("hf_abcdefghijklmnopqrst ok", "[redacted] ok"),
        ("sk-proj-abcdefghijklmnop", "[redacted]"),
        ("key of C, 3 tokens a second", "key of C, 3 tokens a second"),
        ("reward@5: 3://x", "reward@5: 3://x"),
    ],
)
def test_secrets_inside_texts_are_blotted_out(text: str, shown: str) -> None:
    assert redact_text(text) == shown


def test_nested_settings_keep_their_shape_without_their_secrets() -> None:
    found = redact({"a": [{"api_key": "x", "max_tokens": 64}], "token": "", "key": 5, "b": ("https://u:p@h", None)})
    assert found == {
        "a": [{"api_key": "[redacted]", "max_tokens": 64}],
        "token": "",
        "key": 5,
        "b": ["https://[redacted]@h", None],
    }


def test_a_word_after_an_ordinary_option_stays() -> None:
    assert redact_words(["--fork", "runs/a@3", "--key=abc", "x"]) == ["--fork", "runs/a@3", "--key=[redacted]", "x"]
