"""The page of what combines with what is what the code finds."""

from __future__ import annotations

from pathlib import Path

from klimb.proving.matrix import page


def test_the_committed_page_is_the_generated_one(root: Path) -> None:
    assert (root / "docs/validity.md").read_text("utf-8") == page()


def test_the_page_says_the_facts_that_the_papers_argue_about(root: Path) -> None:
    text = (root / "docs/validity.md").read_text("utf-8")
    forward, reverse = "-forward KL to ref", "-reverse KL to ref"
    for line in (
        "| k1 | nothing | nothing | +forward KL to old | +forward KL to old |",
        f"| k3 | {forward} | {forward} per token | no target | no target |",
        f"| w k3 | {reverse} | {reverse} per token | {reverse} | {reverse} per token |",
        f"| sg(w) k3 | {forward} | {forward} per token | {forward} | {forward} per token |",
        "| token ratios | reward | reward | reward | no target |",
        "| group | 0.6667 reward | 0.6667 reward |",
        "| batch | 0.8333 reward | 0.8333 reward |",
    ):
        assert line in text
