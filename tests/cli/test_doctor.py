"""`klimb doctor` names what is there and what is missing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from klimb.cli import machine, main, needs
from klimb.cli.findings import Finding, safely
from klimb.errors import ModelError

RECIPE = """\
model: {name: tiny}
data: {type: echo-digit}
rewards: [{type: exact}]
objective: {type: grpo}
sampling: {max_tokens: 2}
"""


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code, capsys.readouterr().out


def test_a_machine_that_can_train_is_well_and_all_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KLIMB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.yaml").write_text(RECIPE)
    code, out = answer(capsys, "a.yaml", "--json")
    told = json.loads(out)
    states = {finding["name"]: finding["state"] for finding in told["findings"]}
    wanted = (
        "python packages device threads bfloat16 allocator memory disk cache model extras settings data policy sampler"
    )
    assert set(wanted.split()) <= set(states)
    assert (code, told["ok"]) == (0, True)
    assert "bad" not in states.values()
    text = {finding["name"]: finding["text"] for finding in told["findings"]}
    assert "packed" in text["policy"]
    assert str(tmp_path / "cache") in text["cache"]
    assert states["model"] == "note"


@pytest.mark.parametrize(
    ("gain", "says"), [(3.0, "takes 1/3.0 of float32's time: fast"), (0.04, "takes 25.0 times float32")]
)
def test_what_bfloat16_gains_or_costs_is_said_in_times(gain: float, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_gain", lambda _: gain)
    monkeypatch.setattr("klimb.policy.hardware.has_bfloat16", lambda _: True)
    (found,) = machine._arithmetic()
    assert says in found.text and (found.state == "ok") is (gain > 1)


def test_a_critic_with_a_model_of_its_own_is_opened_too(
    tmp_path: Path,
) -> None:
    for path, state, said in (("", "ok", "a head of zeros"), (", path: /gone", "bad", "model '/gone' wants a folder")):
        (tmp_path / "a.yaml").write_text(RECIPE.replace("grpo", f"ppo, value: {{type: model{path}}}"))
        found = {finding.name: finding for finding in needs.of_recipe(str(tmp_path / "a.yaml"))}
        assert (found["policy"].state, found["critic"].state) == ("ok", state) and said in found["critic"].text


def test_wrong_settings_are_bad(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RECIPE + "optimizer: {lrr: 1}\n")
    code, out = answer(capsys, str(tmp_path / "a.yaml"))
    assert code == 1
    assert "[BAD ] settings" in out
    assert "optimizer.lr" in out
    assert out.endswith("1 to mend\n")


def test_a_cache_that_cannot_be_written_is_bad(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLIMB_CACHE", "/proc/nothing")
    code, out = answer(capsys)
    assert code == 1
    assert "[BAD ] cache" in out
    assert "KLIMB_CACHE" in out


def test_a_probe_that_fails_is_a_finding() -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("a", "ok", "fine")
        raise ZeroDivisionError("by zero")

    def refused() -> Iterator[Finding]:
        raise ModelError("a model", "none", "pull it")
        yield

    assert [finding.state for finding in safely("a", broken)] == ["ok", "bad"]
    assert list(safely("b", refused)) == [Finding("b", "bad", "a model; found: none", "pull it")]


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server that answers /v1/models with 401, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/v1", asked
        http.shutdown()
        thread.join()


def test_an_endpoint_that_answers_is_there_even_if_it_refuses(server: tuple[str, list[str]]) -> None:
    address, asked = server
    found = needs.reach(address)
    assert (found.state, asked) == ("ok", ["/v1/models"])
    assert "401" in found.text


def test_an_endpoint_that_does_not_answer_is_bad() -> None:
    found = needs.reach("http://127.0.0.1:9/v1")
    assert found.state == "bad"
    assert "does not answer" in found.text


def test_every_address_in_the_settings_is_found() -> None:
    settings = {"a": "http://x", "b": [{"c": "https://y"}, "no http://z"], "d": 3}
    assert list(needs.addresses(settings)) == ["http://x", "https://y"]
