"""YAML as recipes use it: YAML 1.2 scalars, no repeated keys, and every value's place is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from klimb.errors import KlimbError, SettingsError

LARGEST = 256 * 1024
"""The most bytes a recipe may have; people write them."""
MOST_VALUES = 20_000
DEEPEST = 50

_PREFIX = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    "int": (re.compile(r"(?:[-+]?[0-9]+(?:_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+)\Z"), list("-+0123456789")),
    "float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        list("-+.0123456789"),
    ),
}

_CURES = {
    "\\t": "indent with spaces, not with tabs",
    "mapping values are not allowed": "put a value that holds ': ' in quotes, or check how far the line is indented",
    "could not find expected ':'": "write each setting as `name: value`",
    "another document": "keep one recipe in a file: take the second `---` out",
    "expected <block end>": "check how far the line is indented",
    "expected ',' or": "close the bracket, and part its values by commas",
    "unexpected end of stream": "close the quote",
    "cannot start any token": "put the value in quotes",
    "undefined alias": "put a value that starts with `*` in quotes",
    "unknown escape": "use single quotes, or double each backslash",
}


class _Loader(yaml.SafeLoader):
    """Composes nodes, with the scalars of YAML 1.2: `no` and `on` are text, and `1e-5` is a number."""


_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_PREFIX + _name, _pattern, _first)


def read_recipe(path: Path | str) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises SettingsError, with line and column where there is one."""
    return read_marked(path)[0]


def read_marked(path: Path | str) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping that a YAML file holds, and for each dotted path the line (from 1) on which it stands."""
    path = Path(path)
    return parse(_text(path), str(path))


def parse(text: str, source: str = "the text") -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping that `text` holds, with its lines; `source` names it in errors. Raises SettingsError."""
    root = _compose(text, source)
    if root is None:
        raise _fault(f"{source} must hold settings", "nothing but blanks and comments", "start from a file of recipes/")
    reading = _Reading(source)
    value = reading.value(root, "", 0)
    if not reading.faults and not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else "a single value"
        reading.faults.append(KlimbError(f"{source} must be a mapping", what, "write `name: value` lines"))
    if reading.faults:
        raise SettingsError(reading.faults)
    return value, reading.lines


def scalar(text: str) -> Any:
    """The value of one word: YAML where it starts with a bracket, a brace or a quote; else a plain scalar."""
    if text[:1] in ("[", "{", '"', "'"):
        node = _compose(text, f"`{text}`")
        assert node is not None
        reading = _Reading(f"`{text}`")
        value = reading.value(node, "", 0)
        if reading.faults:
            raise SettingsError(reading.faults)
        return value
    return _plain(text, next((name for name, (pattern, _) in _SCALARS.items() if pattern.match(text)), "str"))


def _plain(text: str, kind: str) -> Any:
    """The Python value of a scalar of this kind. Raises ValueError for a whole number of over 4300 digits."""
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text, 0 if text[:2] in ("0x", "0o") else 10)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            return text


class _Reading:
    """Turns nodes into values, and gathers faults and lines on the way."""

    def __init__(self, source: str) -> None:
        self.source, self.count = source, 0
        self.faults: list[KlimbError] = []
        self.lines: dict[str, int] = {}

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        """The value of a node that stands at a dotted path. Repeated aliases are counted each time."""
        self.count += 1
        if depth > DEEPEST or self.count > MOST_VALUES:
            limit = f"over {DEEPEST} levels" if depth > DEEPEST else f"over {MOST_VALUES} values"
            raise _fault(f"{self.source} is not a recipe", limit, "take out aliases that repeat or contain themselves")
        if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
            return [self._element(item, _join(path, index), depth) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _element(self, node: yaml.Node, path: str, depth: int) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.value(node, path, depth + 1)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, "", depth + 1)
            if not isinstance(key, str):
                self._add(key_node, "the name of a setting must be text", f"{key!r:.60}", "put it in quotes")
                continue
            where = _join(path, key)
            if key in found:
                first = f"already on line {self.lines[where]}"
                self._add(key_node, f"{where} stands twice", first, "keep one of them")
                continue
            self.lines[where] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, where, depth + 1)
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(_PREFIX)
        if not isinstance(node, yaml.ScalarNode) or kind not in (*_SCALARS, "str"):
            self._add(node, "a recipe holds plain values", f"the tag {node.tag}", "take the tag out")
            return None
        try:
            return _plain(node.value, kind)
        except ValueError:
            found = f"{node.value[:20]}... ({len(node.value)} characters)"
            self._add(node, f"a value cannot be read as {kind}", found, "put text in quotes")
            return None

    def _add(self, node: yaml.Node, asked: str, found: str, cure: str) -> None:
        self.faults.append(KlimbError(f"{_place(self.source, node.start_mark)}: {asked}", found, cure))


def _compose(text: str, source: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"the control character U+{ord(text[error.position]):04X}"
        raise _fault(f"{source}:{line} is not YAML", found, "save the file as plain UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        problem = error.problem or str(error)
        cure = next(
            (cure for sign, cure in _CURES.items() if sign in problem),
            "check the line's brackets, quotes and indentation",
        )
        raise _fault(f"{_place(source, error.problem_mark)} is not YAML", problem, cure) from None
    except RecursionError:
        raise _fault(f"{source} is not a recipe", f"over {DEEPEST} levels", "take the nested brackets out") from None
    finally:
        if loader is not None:
            loader.dispose()


def _text(path: Path) -> str:
    """The text of a file, of a size that people write."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise _fault(
            f"the recipe {path} cannot be read", (error.strerror or str(error)).lower(), "check the path"
        ) from None
    if len(raw) > LARGEST:
        raise _fault(
            f"{path} is too large for a recipe", f"over {LARGEST // 1024} KiB", "give the recipe, not a data file"
        )
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _fault(f"{path} is not UTF-8 text", "a UTF-16 file", "save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{raw[error.start]:02x} on line {line}"
        raise _fault(f"{path} is not UTF-8 text", found, "save it as UTF-8, or give another file") from None


def _place(source: str, mark: yaml.Mark | None) -> str:
    return source if mark is None else f"{source}:{mark.line + 1}:{mark.column + 1}"


def _join(path: str, part: str | int) -> str:
    return f"{path}.{part}" if path else str(part)


def _fault(asked: str, found: str, cure: str) -> SettingsError:
    return SettingsError([KlimbError(asked, found, cure)])


class _Dumper(yaml.SafeDumper):
    """Quotes what the scalars of YAML 1.2 would read as something else, and writes plain lists on one line."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def write(data: Mapping[str, Any]) -> str:
    """The YAML of plain values; `parse` reads the same values back."""
    return yaml.dump(
        dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
