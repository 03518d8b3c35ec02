"""The page in a real browser: moved through by keys, read, recoloured; and no hostile text ever acts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from klimb.lens.page import write_page
from klimb.look import run_views
from tests.lens import hostile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


class Watched:
    """A page of the browser, and all that it said, asked for, or tried."""

    def __init__(self, page: Any) -> None:
        self.page, self.said, self.asked = page, list[str](), list[str]()
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, file: Path) -> Any:
        self.page.goto(file.as_uri())
        return self.page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, where: str) -> str:
        return str(self.page.inner_text(where))


@pytest.fixture
def watched() -> Iterator[Watched]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield Watched(browser.new_page(viewport={"width": 1300, "height": 900}))
        browser.close()


def pressed(page: Any) -> list[str]:
    return [str(one.inner_text()) for one in page.query_selector_all('button[aria-pressed="true"]')]


def test_the_page_of_a_run_is_read_by_keyboard_alone(watched: Watched, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "other")
    views = run_views(run, 9, against=tmp_path / "other", against_step=9)
    file = write_page(views, tmp_path / "lens.html")
    page = watched.open(file)
    assert pressed(page) == ["Entropy", "One scale", "Side by side"]
    watched.press("s")  # the first step alone
    assert pressed(page)[-1] == "small, step 9"
    watched.press("ArrowRight")
    assert "token 1 of" in watched.text("#place")
    group = page.evaluate("JSON.parse(document.getElementById('data').textContent).prompts[0][0]")
    row = sum(len(one.rollouts) for one in views[0].groups[:group])
    first = int(np.flatnonzero(views[0].row == row)[0])
    told = watched.text('#values tr[data-key="entropy"] td:last-child')
    assert float(told.partition(" ")[0]) == pytest.approx(float(views[0].values["entropy"][first]), rel=1e-3)
    assert watched.text("#best tr:first-child td:nth-child(2)").endswith("%")
    before = page.get_attribute(".t.at", "class")
    watched.press("c", "c")
    assert pressed(page)[0] == "Log-prob after"
    assert page.get_attribute(".t.at", "class") != before or page.query_selector(".ramp .s23") is not None
    watched.press("a")
    assert "Per completion" in pressed(page)
    watched.press("ArrowDown")
    assert "completion 2" in watched.text("#place")
    watched.press("s")
    assert pressed(page)[-1] == "other, step 9"
    assert "other, step 9" in watched.text("#place")
    watched.press("]")
    assert "2 of" in watched.text("#turns output")
    watched.press("?")
    assert page.is_visible("#help")
    watched.press("Escape")
    assert not page.is_visible("#help")
    assert watched.said == []
    assert [url for url in watched.asked if not url.startswith("file:")] == []


def test_two_steps_of_one_run_and_a_token_under_the_mouse(watched: Watched, run: Path, tmp_path: Path) -> None:
    views = run_views(run, 5, against_step=9)
    page = watched.open(write_page(views, tmp_path / "lens.html"))
    assert pressed(page)[-1] == "Side by side"
    prompts = page.evaluate("JSON.parse(document.getElementById('data').textContent).prompts")
    shown, turned = [], 0
    for place, (view, name) in enumerate(zip(views, ("small, step 5", "small, step 9"), strict=True)):
        watched.press("s")
        assert pressed(page)[-1] == name
        turn = next(number for number, groups in enumerate(prompts) if groups[place] >= 0)
        watched.press(*["]"] * (turn - turned))
        turned = turn
        row = sum(len(one.rollouts) for one in view.groups[: prompts[turn][place]])
        start = int(np.flatnonzero(view.row == row)[0])
        page.hover("section.row .t >> nth=1")
        assert watched.text("#place") == f"{name}, completion 1, token 2 of {int((view.row == row).sum())}"
        for key in ("entropy", "now_logp"):
            told = watched.text(f'#values tr[data-key="{key}"] td:last-child').replace("\u2212", "-")
            assert float(told.partition(" ")[0]) == pytest.approx(float(view.values[key][start + 1]), rel=1e-3), key
        assert page.query_selector(".t.at") is None, "what the mouse is over has no focus"
        shown.append(told)
    assert len(set(shown)) == 2
    assert watched.said == []


def test_two_hundred_hostile_outputs_run_no_script(watched: Watched, tmp_path: Path) -> None:
    known = hostile.texts()
    file = write_page([hostile.view(known, known[0]), hostile.view(known[::-1], known[31])], tmp_path / "lens.html")
    page = watched.open(file)
    for place in range(len(known)):
        watched.press(*(("ArrowRight",) if place % 5 == 0 else ()), "PageDown")
    assert "200 of 200" in watched.text("#turns output")
    assert page.evaluate("window.hurt") is None
    assert page.evaluate("document.scripts.length") == 2
    assert page.evaluate("document.querySelectorAll('img,iframe,object,embed,link,base,form,input').length") == 0
    assert watched.said == []
    assert watched.asked == [file.as_uri()]


def test_a_completion_of_8000_tokens_opens_at_once_and_keys_reach_its_end(watched: Watched, tmp_path: Path) -> None:
    view = hostile.view(["word ", "and\n"])
    long = hostile.lengthened(view, 8000)
    page = watched.open(write_page([long], tmp_path / "lens.html"))
    assert page.evaluate("document.querySelectorAll('.t').length") < 8000
    watched.press("ArrowRight", "End")
    assert "token 8000 of 8000" in watched.text("#place")
    took = page.evaluate(
        "() => { const start = performance.now();"
        "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'c'})); return performance.now() - start; }"
    )
    assert took < 500
    assert watched.said == []


def until(page: Any, what: str) -> None:
    """Waits for an expression to be true, for five seconds; the page forbids the eval of the driver's own waiting."""
    for _ in range(100):
        if page.evaluate(what):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {what}")


def test_a_long_prompt_that_has_the_focus_scrolls_by_keys_and_a_short_one_gives_them_to_the_tokens(
    watched: Watched, tmp_path: Path
) -> None:
    known = ["line\n" * 400, "short"]
    page = watched.open(write_page([hostile.view(known)], tmp_path / "lens.html"))
    page.focus("pre")
    watched.press("PageDown", "ArrowDown")
    until(page, "document.querySelector('pre').scrollTop > 40")
    watched.press("End")
    until(page, "(p => p.scrollTop + p.clientHeight >= p.scrollHeight - 2)(document.querySelector('pre'))")
    assert watched.text("#turns output") == "1 of 2"
    assert page.query_selector(".t.at") is None
    watched.press("]")
    page.focus("pre")
    watched.press("End")
    assert "token 2 of 2" in watched.text("#place")
    assert watched.said == []
