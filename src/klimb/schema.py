"""What a setting may be, read from its record: the shape of each value, and the names that there are."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Record = type[BaseModel]
LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
"""The names of the bounds that metadata may set."""


@dataclass(frozen=True)
class Shape:
    """What one value may be. Exactly one of record, members, item, choices, others and plain tells it.

    `members`: the records of a union told apart by `tag`. `item`: of a list, or of a mapping if `keyed`.
    `others`: the shapes of a plain union. `field`: the one that it is the value of.
    """

    none: bool = False
    record: Record | None = None
    tag: str = ""
    members: tuple[tuple[str, Record], ...] = ()
    item: Shape | None = None
    keyed: bool = False
    choices: tuple[Any, ...] = ()
    others: tuple[Shape, ...] = ()
    plain: Any = None
    bounds: tuple[Any, ...] = ()
    field: FieldInfo | None = None

    @property
    def is_text(self) -> bool:
        """Whether any text is a value."""
        return self.plain is str or self.plain is Path

    @property
    def records(self) -> tuple[Record, ...]:
        """The records that this value itself may be."""
        return (self.record,) if self.record else tuple(member for _, member in self.members)

    def chosen(self, value: Any) -> Record | None:
        """The record that `value` is meant for, where that can be told."""
        if self.record or not isinstance(value, Mapping):
            return self.record
        tag = value.get(self.tag)
        return dict(self.members).get(tag) if isinstance(tag, str) else None


def shape_of(field: FieldInfo) -> Shape:
    """The shape of a field's value."""
    return replace(_shape(field.annotation, (*field.metadata, field)), field=field)


def shape_at(record: Record, parts: Sequence[str], data: Any = None) -> Shape | None:
    """The shape of the value at a dotted path; `data` tells which member of a union is meant. None: no such setting."""
    shape: Shape | None = Shape(record=record)
    for part in parts:
        if shape is None:
            return None
        shape = step(shape, part, data)
        data = child(data, part)
    return shape


def step(shape: Shape, part: str, value: Any = None) -> Shape | None:
    """The shape at `part` of a value: the field of a record, or the element of a list or mapping."""
    if shape.item is not None:
        return shape.item if shape.keyed or part.isdigit() else None
    chosen = shape.chosen(value)
    for record in (chosen,) if chosen else shape.records:
        if part in record.model_fields:
            return shape_of(record.model_fields[part])
    found = (step(other, part, value) for other in shape.others)
    return next((inner for inner in found if inner is not None), None)


def leaves(record: Record, path: str = "", seen: tuple[Record, ...] = ()) -> Iterator[str]:
    """Every dotted path of a record, sections and leaves; lists stand as `name.0`, members of a union side by side."""
    if record in seen:
        return
    for name, field in record.model_fields.items():
        here = f"{path}.{name}" if path else name
        yield here
        yield from _below(shape_of(field), here, (*seen, record))


def _below(shape: Shape, path: str, seen: tuple[Record, ...]) -> Iterator[str]:
    for record in shape.records:
        yield from leaves(record, path, seen)
    if shape.item is not None and not shape.keyed:
        yield from _below(shape.item, f"{path}.0", seen)
    for other in shape.others:
        yield from _below(other, path, seen)


def _shape(annotation: Any, extra: tuple[Any, ...] = ()) -> Shape:
    """The shape of an annotation with the metadata that stands around it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0], (*arguments[1:], *extra))
    if origin in (Union, types.UnionType):
        return _union(arguments, extra)
    if origin is Literal:
        return Shape(choices=arguments)
    if origin in (list, tuple, set, frozenset, Sequence):
        inner = arguments[0] if arguments else Any
        return Shape(item=_shape(inner), bounds=_limits(extra))
    if origin in (dict, Mapping):
        return Shape(item=_shape(arguments[1]), keyed=True)
    return _class(annotation, extra)


def _class(annotation: Any, extra: tuple[Any, ...]) -> Shape:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Shape(record=annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Shape(choices=tuple(member.value for member in annotation))
    return Shape(plain=annotation, bounds=_limits(extra))


def _union(arguments: tuple[Any, ...], extra: tuple[Any, ...]) -> Shape:
    none = type(None) in arguments
    kinds = [argument for argument in arguments if argument is not type(None)]
    tag = next((str(d) for meta in extra if (d := getattr(meta, "discriminator", None))), "")
    if len(kinds) == 1:
        only = _shape(kinds[0], extra)
        return Shape(**{**vars(only), "none": none or only.none})
    if tag:
        return Shape(none=none, tag=tag, members=tuple(_members(kinds, tag)))
    return Shape(none=none, others=tuple(_shape(kind, extra) for kind in kinds))


def _members(kinds: Sequence[Any], tag: str) -> Iterator[tuple[str, Record]]:
    for outer in kinds:
        kind = get_args(outer)[0] if get_origin(outer) is Annotated else outer
        if get_origin(kind) in (Union, types.UnionType):
            yield from _members(get_args(kind), tag)
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            for name in shape_of(kind.model_fields[tag]).choices:
                yield str(name), kind


def _limits(extra: tuple[Any, ...]) -> tuple[Any, ...]:
    """The metadata that bounds a value, with grouped metadata opened."""
    flat: list[Any] = []
    for meta in extra:
        flat += _limits(tuple(meta.metadata)) if isinstance(meta, FieldInfo) else [meta]
    return tuple(dict.fromkeys(meta for meta in flat if any(limit(meta, name) is not None for name in LIMITS)))


def limit(meta: Any, name: str) -> Any:
    """The bound of this name that a piece of metadata sets, or None."""
    value = getattr(meta, name, None)
    return None if callable(value) else value


def child(data: Any, part: str) -> Any:
    """What stands at `part` of a mapping or list, or None."""
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, list | tuple) and part.isdigit() and int(part) < len(data):
        return data[int(part)]
    return None
