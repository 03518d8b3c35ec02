"""What pydantic found wrong, as faults that a person can act on: path, what stands there, cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from klimb.describe import default_of, say, words
from klimb.errors import KlimbError
from klimb.nearest import cure_unknown, nearest
from klimb.schema import Record, Shape, child, step

_LABELS = ("tagged-union", "list", "tuple", "dict")


def faults_of(error: ValidationError, root: Record, data: Any, places: Mapping[str, str]) -> list[KlimbError]:
    """Every fault once, in the order of the settings. `places` says where a dotted path was written."""
    found: dict[str, KlimbError] = {}
    meant: set[str] = set()
    missing: set[str] = set()
    for one in error.errors(include_url=False):
        led = _follow(root, data, one["loc"])
        if led is None:
            continue
        path, section, value = led
        here = ".".join(path)
        match one["type"]:
            case "extra_forbidden":
                found[here], instead = _unknown(root, path, section, value, places)
                meant.add(instead)
            case "missing":
                missing.add(here)
                found[here] = _missing(here, section)
            case "too_short" if any(other.startswith(f"{here}.") for other in found):
                continue  # pydantic does not count elements that have a fault of their own
            case _:
                fault_path, fault = _wrong(one, here, section, value, places)
                found.setdefault(fault_path, fault)
    return [fault for here, fault in found.items() if here not in missing or here not in meant]


def collect(value: Any, path: str = "") -> Iterator[KlimbError]:
    """What the `faults()` of each record in a tree of settings say, the outermost last."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from collect(getattr(value, name), f"{path}.{name}" if path else name)
        for fault in getattr(value, "faults", list)():
            named = not path or fault.asked.startswith(path)
            yield fault if named else type(fault)(f"{path}: {fault.asked}", fault.found, fault.cure)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from collect(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from collect(inner, f"{path}.{index}")


def _unknown(
    root: Record, path: list[str], section: Shape, value: Any, places: Mapping[str, str]
) -> tuple[KlimbError, str]:
    """The fault of a name that is no setting, and the path that it was meant for ("" where that is not sure)."""
    here, parent = ".".join(path), ".".join(path[:-1])
    cure, instead = cure_unknown(root, section, parent, path[-1], value)
    found = _found(child(value, path[-1]), here, places)
    meant = (f"{parent}.{instead}" if parent else instead) if instead else ""
    return KlimbError(f"{here} is not a setting", found, cure), meant


def _missing(here: str, section: Shape) -> KlimbError:
    inner = step(section, here.rpartition(".")[2])
    wanted = words(inner) if inner else "a value"
    return KlimbError(f"{here} must be given", "nothing", f"{here}: {wanted}")


def _wrong(one: Any, here: str, shape: Shape, value: Any, places: Mapping[str, str]) -> tuple[str, KlimbError]:
    """The fault of a value that its setting does not take, and the path at which it is reported."""
    if one["type"] == "union_tag_not_found":
        names = ", ".join(name for name, _ in shape.members)
        path = f"{here}.{shape.tag}"
        return path, KlimbError(f"{path} must be given", _found(value, here, places), f"one of: {names}")
    if one["type"] == "union_tag_invalid":
        path = f"{here}.{shape.tag}"
        return path, _no_choice(path, child(value, shape.tag), [name for name, _ in shape.members], places)
    if one["type"] == "value_error":
        reason = str(one.get("ctx", {}).get("error", one["msg"]))
        return here, KlimbError(f"{here or 'the recipe'}: {reason}", _found(value, here, places), _explain(here))
    if shape.choices:
        return here, _no_choice(here, value, shape.choices, places)
    wanted = words(shape)
    asked = f"{here or 'the recipe'} must be {wanted}"
    return here, KlimbError(asked, _found(value, here, places), _cure(here, shape, value))


def _no_choice(path: str, value: Any, choices: Sequence[Any], places: Mapping[str, str]) -> KlimbError:
    names = [say(choice) for choice in choices]
    close = nearest(value, names) if isinstance(value, str) else None
    cure = f"{path}={close} (there are: {', '.join(names)})" if close else f"one of: {', '.join(names)}"
    return KlimbError(f"{path} has no such choice", _found(value, path, places), cure)


def _cure(here: str, shape: Shape, value: Any) -> str:
    """What to write instead of a value of the wrong kind or outside its bounds."""
    if shape.members and isinstance(value, str):
        close = nearest(value, [name for name, _ in shape.members])
        return f"{here}={{{shape.tag}: {close or '...'}}}"
    if shape.is_text and isinstance(value, int | float):
        return f'put it in quotes: {here}: "{say(value)}"'
    if shape.plain is bool and isinstance(value, str):
        return "true or false, without quotes"
    if shape.plain in (int, float) and isinstance(value, str) and _reads_as_number(value):
        return f"write the number without quotes: {here}: {value.strip()}"
    if shape.plain is int and isinstance(value, float) and value.is_integer():
        return f"{here}={int(value)}"
    if shape.item is not None and not shape.keyed and not isinstance(value, Mapping | list):
        return f"{here}=[{say(value)}]"
    default = default_of(shape.field) if shape.field is not None else ""
    return f"{here}={default}, the default; or {_explain(here)}" if default else _explain(here)


def _explain(here: str) -> str:
    named = ".".join(part for part in here.split(".") if not part.isdigit())
    return f"see `klimb explain {named}`" if named else "see `klimb explain`"


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _found(value: Any, path: str, places: Mapping[str, str]) -> str:
    """The value as it was written, with its kind where that is the point, and the place where it stands."""
    kind = {bool: "", int: "the number ", float: "the number ", str: "the text "}.get(type(value), "")
    place = ""
    while path and not place:
        place = places.get(path, "")
        path = path.rpartition(".")[0]
    return kind + say(value) + (f" ({place})" if place else "")


def _follow(root: Record, data: Any, parts: Sequence[str | int]) -> tuple[list[str], Shape, Any] | None:
    """The dotted parts, shape and value to which an error leads; for an unknown or missing name those of its section.

    pydantic puts a union's tag, or a label for each member of a plain union, between the parts; these are dropped.
    The walk ends at a plain union, unless the value shows which member was meant; then other members give None.
    """
    path: list[str] = []
    shape, value = Shape(record=root), data
    for part in parts:
        chosen = shape.chosen(value) if shape.members else None
        if chosen is not None and part == value[shape.tag]:
            shape = Shape(record=chosen, tag=shape.tag, members=shape.members)
            continue
        if shape.others:
            meant = _meant(shape, value)
            if meant is None:
                break
            if not _labels(meant, str(part)):
                return None
            shape = meant
            continue
        inner = step(shape, str(part), value)
        path.append(str(part))
        if inner is None or (shape.records and str(part) not in value):
            break
        shape, value = inner, child(value, str(part))
    return path, shape, value


def _meant(shape: Shape, value: Any) -> Shape | None:
    """The one member of a plain union that a mapping or list can be meant for."""
    if isinstance(value, Mapping):
        fits = [other for other in shape.others if other.records or other.keyed]
    elif isinstance(value, list):
        fits = [other for other in shape.others if other.item is not None and not other.keyed]
    else:
        fits = []
    return fits[0] if len(fits) == 1 else None


def _labels(shape: Shape, label: str) -> bool:
    return label.startswith(_LABELS) or any(record.__name__ in label for record in shape.records)
