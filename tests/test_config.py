"""Settings: merged over defaults, changed by words, compared, written and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from klimb.config import ABSENT, Settings, apply_words, changed, dump, load, resolve
from klimb.errors import KlimbError, SettingsError
from klimb.yamltext import parse, write


class Square(Settings):
    """A square."""

    type: Literal["square"] = "square"
    side: Annotated[float, Field(gt=0.0)] = 1.0
    """How long a side is."""


class Circle(Settings):
    """A circle."""

    type: Literal["circle"] = "circle"
    radius: Annotated[float, Field(gt=0.0)] = 1.0
    """How far the edge is."""
    colour: str = "red"
    """What it looks like."""


class Pen(Settings):
    """What draws."""

    width: Annotated[int, Field(ge=1, le=9)] = 1
    """How thick."""
    ink: str = "blue"
    """Which ink."""

    def faults(self) -> list[KlimbError]:
        """No thick pen of gold."""
        gold = self.ink == "gold" and self.width > 3
        return [KlimbError("gold is thin", f"width={self.width}", "width=3")] if gold else []


AnyShape = Annotated[Square | Circle, Field(discriminator="type")]


class Drawing(Settings):
    """The whole."""

    shape: AnyShape = Circle(radius=5.0)
    """What is drawn."""
    more: tuple[AnyShape, ...] = ()
    """What else."""
    pen: Pen = Pen(width=2)
    """With what."""
    scale: float | Literal["auto"] = "auto"
    """How large."""
    frame: Pen | None = None
    """Around it."""
    labels: Annotated[dict[str, int], Field(default_factory=dict)]
    """Names."""
    folder: Path | None = None
    """Where to."""
    title: str = ""
    """On top."""

    def faults(self) -> list[KlimbError]:
        """A title needs a folder."""
        return [KlimbError("a title", "no folder", "folder=DIR")] if self.title and self.folder is None else []


def faults(data: dict[str, Any]) -> list[KlimbError]:
    with pytest.raises(SettingsError) as caught:
        resolve(Drawing, data)
    return list(caught.value.faults)


def test_a_section_that_says_a_part_keeps_the_rest_of_its_default() -> None:
    assert resolve(Drawing, {"shape": {"colour": "green"}}).shape == Circle(radius=5.0, colour="green")
    assert resolve(Drawing, {"pen": {"ink": "black"}}).pen == Pen(width=2, ink="black")


def test_a_section_of_another_type_takes_nothing_from_the_default() -> None:
    assert resolve(Drawing, {"shape": {"type": "square"}}).shape == Square(side=1.0)
    assert resolve(Drawing, {"more": [{"type": "circle"}]}).more == (Circle(radius=1.0),)


def test_all_faults_come_at_once_and_in_order() -> None:
    found = faults({"pen": {"width": 12, "ink": 3}, "shape": {"type": "square", "side": -1, "colour": "red"}, "x": 1})
    asked = [fault.asked.split()[0] for fault in found]
    assert sorted(asked) == ["pen.ink", "pen.width", "shape.colour", "shape.side", "x"]
    assert all(fault.found and fault.cure for fault in found)


def test_a_union_tells_only_of_the_type_that_was_chosen() -> None:
    (fault,) = faults({"shape": {"type": "square", "side": "long"}})
    assert (fault.asked, fault.found) == ("shape.side must be a number above 0", "the text long")
    (fault,) = faults({"shape": {"type": "square", "radius": 1}})
    assert fault.cure == "take it out, or shape={type: circle, ...}: it belongs to type circle"


def test_a_choice_of_kinds_is_one_fault() -> None:
    (fault,) = faults({"scale": [1]})
    assert fault.asked == "scale must be a number or auto"


def test_a_section_that_may_be_null_is_checked_where_it_is_given() -> None:
    (fault,) = faults({"frame": {"width": 0}})
    assert fault.asked == "frame.width must be a whole number from 1 to 9"
    assert resolve(Drawing, {"frame": None}).frame is None


def test_a_mapping_of_names_is_checked_by_its_values() -> None:
    (fault,) = faults({"labels": {"a": "x"}})
    assert fault.asked == "labels.a must be a whole number"


def test_a_misspelt_name_that_is_missed_is_one_fault_and_not_two() -> None:
    class Strict(Settings):
        prompts: int

    with pytest.raises(SettingsError) as caught:
        resolve(Strict, {"promts": 3})
    (fault,) = caught.value.faults
    assert fault.cure == "prompts"


def test_the_parts_of_a_tree_say_what_does_not_fit_together() -> None:
    found = faults({"pen": {"ink": "gold", "width": 4}, "title": "x"})
    assert [fault.asked for fault in found] == ["pen: gold is thin", "a title"]


def test_a_value_of_the_wrong_kind_is_never_bent_into_the_right_one() -> None:
    wrong = [{"pen": {"width": value}} for value in ("3", 3.0, True, None)]
    wrong += [{"shape": {"radius": value}} for value in ("3", True)] + [{"title": 3}]
    for data in wrong:
        assert len(faults(data)) == 1, data
    assert resolve(Drawing, {"shape": {"radius": 3}}).shape == Circle(radius=3.0)


def test_words_set_values_by_dotted_path() -> None:
    data = {"more": [{"type": "square"}], "pen": {"width": 1}}
    words = ["pen.width=4", "more.0.side=2.5", "more.1.type=circle", "frame.ink=red", "labels={a: 1}", "scale=1e-3"]
    drawing = resolve(Drawing, apply_words(data, words, Drawing))
    assert (drawing.pen.width, drawing.frame) == (4, Pen(ink="red"))
    assert drawing.more == (Square(side=2.5), Circle())
    assert (drawing.labels, drawing.scale) == ({"a": 1}, 1e-3)
    assert data == {"more": [{"type": "square"}], "pen": {"width": 1}}


def test_a_word_for_a_text_stays_text() -> None:
    words = ["title=7", "folder=8", "shape.colour=true", "pen.ink=", "scale=2"]
    drawing = resolve(Drawing, apply_words({}, words, Drawing))
    assert (drawing.title, drawing.folder, drawing.pen.ink, drawing.scale) == ("7", Path("8"), "", 2.0)
    assert drawing.shape == Circle(radius=5.0, colour="true")
    assert resolve(Drawing, apply_words({"folder": "x"}, ["folder=null"], Drawing)).folder is None


def test_the_last_word_wins() -> None:
    assert apply_words({}, ["pen.width=1", "pen.width=2"]) == {"pen": {"width": 2}}


def test_every_word_that_cannot_be_applied_is_a_fault() -> None:
    with pytest.raises(SettingsError) as caught:
        apply_words({"a": 1, "b": [1]}, ["x", "=1", "a.b=1", "b.3=1", "b.x=1", "c=[1", "ok=1"])
    assert len(caught.value.faults) == 6
    assert all("try: " in fault.line() for fault in caught.value.faults)


def test_what_is_dumped_resolves_to_the_same_settings() -> None:
    drawing = resolve(Drawing, {"more": [{"type": "square", "side": 1e-5}], "folder": "a/b", "title": "no"})
    plain = json.loads(json.dumps(dump(drawing)))
    assert resolve(Drawing, plain) == drawing
    assert resolve(Drawing, parse(write(plain))[0]) == drawing
    assert list(plain) == list(Drawing.model_fields)


def test_a_difference_is_told_by_path_with_both_values() -> None:
    one = resolve(Drawing, {"more": [{"type": "square"}]})
    two = resolve(Drawing, {"more": [{"type": "circle"}], "pen": {"width": 3}})
    assert changed(one, one) == {}
    assert changed(dump(one), two) == {
        "more.0.type": ("square", "circle"),
        "more.0.side": (1.0, ABSENT),
        "more.0.radius": (ABSENT, 1.0),
        "more.0.colour": (ABSENT, "red"),
        "pen.width": (2, 3),
    }
    assert changed({"a": 1}, {"a": True}) == {"a": (1, True)}
    assert changed({"a": []}, {"a": [1]}) == {"a": ([], ABSENT), "a.0": (ABSENT, 1)}


def test_a_file_and_words_are_read_together_and_places_are_told(tmp_path: Path) -> None:
    path = tmp_path / "drawing.yaml"
    path.write_text("pen:\n  width: 12\nshape:\n  type: square\n")
    assert load(Drawing, path, ["pen.width=3"]).pen.width == 3
    with pytest.raises(SettingsError) as caught:
        load(Drawing, path, ["shape.side=0", "oops"])
    lines = [fault.line() for fault in caught.value.faults]
    assert len(lines) == 3
    assert any(f"12 (line 2 of {path})" in line for line in lines)
    assert any("the number 0 (given as a word)" in line for line in lines)


def test_settings_are_frozen_and_a_field_tells_its_help() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Pen().width = 3
    assert Pen.model_fields["width"].description == "How thick."


def test_a_field_that_is_given_another_default_keeps_its_help() -> None:
    class Marker(Pen):
        width: Annotated[int, Field(ge=1, le=99)] = 20

    class Highlighter(Marker):
        width: Annotated[int, Field(ge=1, le=99)] = 30

    assert Highlighter.model_fields["width"].description == "How thick."
    assert Highlighter().width == 30
