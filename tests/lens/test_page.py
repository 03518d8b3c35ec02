"""The page as text: what a model wrote is data in it, and nothing but its own script may run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from klimb.lens import palette
from klimb.lens.page import numbers, render
from klimb.lens.plots import for_page
from klimb.lens.summary import summarise
from tests.lens import hostile


class Seen(HTMLParser):
    """The elements of a page, as a browser would read them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.contents: list[tuple[str, str]] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style"):
            self.contents.append((self.inside, data))


@pytest.fixture(scope="module")
def page() -> str:
    known = hostile.texts()
    return render([hostile.view(known, known[0]), hostile.view(known[::-1], known[31])])


@pytest.fixture(scope="module")
def seen(page: str) -> Seen:
    return Seen(page)


def test_two_hundred_hostile_texts_add_no_element_that_acts(seen: Seen) -> None:
    assert len(hostile.texts()) == 200
    names = [tag for tag, _ in seen.tags]
    assert names.count("script") == 2
    assert not {"img", "iframe", "object", "embed", "link", "base", "form", "video", "input", "a"} & set(names)
    handlers = [name for _, attrs in seen.tags for name in attrs if name.startswith("on") or name in ("style", "src")]
    assert handlers == []
    targets = [v for _, attrs in seen.tags for name, v in attrs.items() if name.endswith("href") and v is not None]
    assert all(target.startswith("#") for target in targets)


def test_the_policy_of_the_page_allows_our_script_and_style_by_hash_and_nothing_else(seen: Seen) -> None:
    (policy,) = [
        a["content"] or "" for tag, a in seen.tags if tag == "meta" and "Policy" in (a.get("http-equiv") or "")
    ]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        text = [content for tag, content in seen.contents if tag == kind][-1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_the_data_are_ascii_json_in_which_every_hidden_letter_is_written_out(page: str, seen: Seen) -> None:
    text = next(content for tag, content in seen.contents if tag == "script")
    assert text.isascii()
    assert not set("<>&") & set(text)
    data: dict[str, Any] = json.loads(text)
    everything = "".join([*data["words"], *(g["prompt"] for v in data["views"] for g in v["groups"])])
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u061c\ud800-\udfff\x00-\x08]", everything)
    assert "⟨U+202E⟩" in everything
    assert "⟨U+0000⟩" in everything
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u061c\x00-\x08]", page)


def test_a_token_of_a_megabyte_is_cut_and_its_size_said(page: str) -> None:
    assert len(page) < 3_000_000
    assert "more characters" in page


def test_values_stand_at_their_tokens(seen: Seen) -> None:
    data = json.loads(next(content for tag, content in seen.contents if tag == "script"))
    row = data["views"][0]["groups"][1]["rows"][0]
    view = hostile.view(hostile.texts())
    assert row["values"]["entropy"] == pytest.approx(view.values["entropy"][2:4].tolist(), rel=1e-3)
    assert len(row["best"]) == len(row["chance"]) == 10
    assert row["reward"] == 1


def test_our_script_writes_no_markup() -> None:
    from importlib.resources import files

    script = files("klimb.lens").joinpath("lens.js").read_text("utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|fetch|XMLHttp", script
    )


def test_the_numbers_are_json_and_those_of_the_view() -> None:
    view = hostile.view(["one", "two", "three"])
    found = json.loads(json.dumps(numbers([view]), allow_nan=False))["views"][0]
    assert [row["values"]["entropy"] for row in found["rows"]][2] == pytest.approx(view.values["entropy"][4:].tolist())
    assert found["distributions"]["tokens"] == 6
    assert found["distributions"]["threshold"] == pytest.approx(float(np.sort(view.values["entropy"])[-2]))


def test_tokens_that_write_the_same_string_are_one_string_and_how_often_it_must_occur_is_said() -> None:
    view = hostile.view(["one", "one", "two"])
    found = summarise(replace(view, least=4))
    entropy = view.values["entropy"]
    assert [(one.text, one.count) for one in found.highest] == [("one", 4)] and found.lowest == []
    assert found.highest[0].mean == pytest.approx(float(entropy[:4].mean()))
    assert {one.text for one in summarise(replace(view, least=2)).lowest} == {"one"} and summarise(view).least == 3


def test_figures_carry_no_style_attribute() -> None:
    drawn = for_page([("a", summarise(hostile.view(hostile.texts())))])
    assert {"entropy", "kept"} <= set(drawn)
    assert all("style=" not in svg and "<style" not in svg for svg in drawn.values())


@pytest.mark.parametrize("paper", [palette.LIGHT, palette.DARK])
def test_ramps_change_in_lightness_only_one_way_and_their_ink_can_be_read(paper: palette.RGB) -> None:
    colours = [palette.sequential(step / 23, paper) for step in range(24)]
    light = [palette.luminance(colour) for colour in colours]
    assert light == sorted(light, reverse=paper == palette.LIGHT)
    for colour in [*colours, *(palette.diverging(step / 12 - 1, paper) for step in range(25))]:
        ink = 0.0 if palette.ink_on(colour) == "#000" else 1.0
        high, low = sorted((palette.luminance(colour), ink), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5
