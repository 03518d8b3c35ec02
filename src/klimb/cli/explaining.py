"""`klimb explain`: any setting by its dotted name, any section, any recipe."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klimb.cli import recipes
from klimb.errors import KlimbError, SettingsError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from klimb.schema import Shape

WIDTH = 110


def explain(name: str | None) -> str:
    """What is known of a setting, section or recipe; without a name, of all sections. Raises SettingsError."""
    from klimb.recipe import Recipe

    if not name:
        return "\n".join(_overview(Recipe))
    parts = [part for part in name.split(".") if not part.isdigit()]
    if parts and (parts[0] in Recipe.model_fields or not _is_recipe(name)):
        return "\n".join(_setting(Recipe, parts))
    return _recipe(recipes.find(name))


def _is_recipe(name: str) -> bool:
    return name in recipes.names() or Path(name).suffix in (".yaml", ".yml") or Path(name).is_file()


def _recipe(path: Path) -> str:
    from klimb.cli.training import described

    top = recipes.header(path)
    return f"{path}\n{textwrap.indent(top, '  ')}\n\n{described(recipes.load(str(path)), strict=False)}"


def _overview(root: type[BaseModel]) -> Iterator[str]:
    yield "A recipe has these sections; `klimb explain NAME` tells more, down to optimizer.lr:"
    for name, field in root.model_fields.items():
        yield f"  {name:<12} {field.description or ''}"
    known = recipes.names()
    if known:
        yield ""
        yield "Recipes: " + ", ".join(sorted(known))


def _setting(root: type[BaseModel], parts: list[str]) -> Iterator[str]:
    """The setting that the parts lead to; where several types have it, each."""
    found = list(_lookup(root, parts))
    if not found:
        raise SettingsError([_unknown(root, parts)])
    said: dict[tuple[str, ...], list[str]] = {}
    for owner, field, shape, default in found:
        lines = [*(_about(field, shape, default) if field is not None else ()), *_inside(shape, default)]
        said.setdefault(tuple(lines), []).append(owner)
    for about, owners in said.items():
        yield ".".join(parts) + (f" (of {', '.join(filter(None, owners))})" if any(owners) else "")
        yield from about


def _about(field: FieldInfo, shape: Shape, default: Any) -> Iterator[str]:
    from klimb.describe import words

    if field.description:
        yield from _wrapped(field.description, "  ")
    if shape.records:
        return
    yield f"  value:   {words(shape)}"
    yield f"  default: {_default(field, default)}"


def _inside(shape: Shape, default: Any) -> Iterator[str]:
    """The settings of a section; the types of a union, each with its own."""
    if shape.item is not None:
        yield from _inside(shape.item, None)
    for other in shape.others:
        yield from _inside(other, None)
    if shape.record is not None:
        yield from _fields(shape.record, default if isinstance(default, shape.record) else None)
    for tag, record in shape.members:
        mine = isinstance(default, record)
        yield ""
        yield f"  {shape.tag}: {tag}{' (the default)' if mine else ''}"
        yield from _wrapped(_summary(record), "    ")
        yield from _fields(record, default if mine else None, shape.tag, "    ")


def _fields(record: type[BaseModel], default: Any, tag: str = "", indent: str = "  ") -> Iterator[str]:
    from klimb.describe import words
    from klimb.schema import shape_of

    for name, field in record.model_fields.items():
        if name == tag:
            continue
        shape = shape_of(field)
        value = _default(field, getattr(default, name) if default is not None else None)
        yield f"{indent}{name} = {value}" if not shape.records else f"{indent}{name}: {words(shape)}"
        if not shape.records:
            yield f"{indent}    {words(shape)}"
        yield from _wrapped(field.description or "", indent + "    ")


def _lookup(root: type[BaseModel], parts: list[str]) -> Iterator[tuple[str, FieldInfo | None, Shape, Any]]:
    """Each place to which the parts lead: whose it is, its field, its shape, its default."""
    from klimb.schema import Shape

    yield from _down(Shape(record=root), parts, "", None, None)


def _down(
    shape: Shape, parts: list[str], owner: str, field: FieldInfo | None, default: Any
) -> Iterator[tuple[str, FieldInfo | None, Shape, Any]]:
    from klimb.schema import Shape, shape_of

    if not parts:
        yield owner, field, shape, default
        return
    for inner in (*([shape.item] if shape.item is not None else []), *shape.others):
        yield from _down(inner, parts, owner, field, None)
    first, rest = parts[0], parts[1:]
    for tag, record in shape.members or (("", shape.record),):
        if record is None:
            continue
        if tag and first == tag and first not in record.model_fields:
            mine = default if isinstance(default, record) else None
            yield from _down(Shape(record=record), rest, "", None, mine)
        elif first in record.model_fields:
            inside = record.model_fields[first]
            whose = f"{shape.tag} {tag}" if tag else owner
            own = getattr(default, first) if isinstance(default, record) else _own(inside)
            yield from _down(shape_of(inside), rest, whose, inside, own)


def _own(field: FieldInfo) -> Any:
    return (
        None
        if field.is_required() or field.default_factory_takes_validated_data
        else field.get_default(call_default_factory=True)
    )


def _default(field: FieldInfo, value: Any) -> str:
    from klimb.describe import default_of, say

    if field.is_required():
        return "(must be given)"
    return default_of(field) if value is None else say(value)


def _summary(record: type[BaseModel]) -> str:
    return (inspect.getdoc(record) or "").split("\n\n")[0].replace("\n", " ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent=indent, subsequent_indent=indent)


def _unknown(root: type[BaseModel], parts: list[str]) -> KlimbError:
    from klimb.nearest import known_elsewhere, nearest
    from klimb.schema import leaves

    path = ".".join(parts)
    paths = {".".join(part for part in here.split(".") if not part.isdigit()) for here in leaves(root)}
    ending = sorted(here for here in paths if here.rpartition(".")[2] == parts[-1])[:3]
    close = known_elsewhere(sorted(paths), parts[-1]) or " or ".join(ending) or nearest(path, sorted(paths))
    return KlimbError(f"{path} is neither a setting nor a recipe", "no such name", close or "`klimb explain`")
