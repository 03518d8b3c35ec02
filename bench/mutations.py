"""Mutants of the proved core: one small change each, by mutmut's operators, with where it stands.

Left alone: type annotations, decorators, docstrings, `__all__`, what only type checkers read, the defaults of settings
(a test that repeats a number proves nothing) and the texts of messages (strings with a space in them, and f-strings).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor, deep_replace
from mutmut.mutation.mutators import mutation_operators, operator_arg_removal, operator_string
from mutmut.mutation.pragma_handling import IgnoredCode

ONLY_FOR_TYPES = m.If(test=m.Name("TYPE_CHECKING"))
PUBLIC_NAMES = m.Assign(targets=[m.AssignTarget(m.Name("__all__"))])


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed source of one file: which line, what stood there and what stands there now."""

    path: str
    line: int
    span: tuple[int, int] | None
    """The first and the last line of the function or method around it; none where it stands in no function."""
    before: str
    after: str
    source: str

    @property
    def name(self) -> str:
        """Stays the same as long as the file does."""
        return f"{self.path}:{self.line}:{hashlib.sha256(self.source.encode()).hexdigest()[:8]}"


def message(node: cst.CSTNode) -> bool:
    """Whether a string is text for people."""
    return isinstance(node, (cst.FormattedString, cst.ConcatenatedString)) or (
        isinstance(node, cst.SimpleString) and " " in node.value
    )


def strings(node: cst.BaseString) -> Iterable[cst.CSTNode]:
    """A string that is a name becomes another one."""
    return [] if message(node) else list(operator_string(node))[:1]


def arguments(node: cst.Call) -> Iterable[cst.CSTNode]:
    """Each argument becomes None, or goes; texts do not become None."""
    silent = [index for index, arg in enumerate(node.args) if message(arg.value)]
    for changed in operator_arg_removal(node):
        assert isinstance(changed, cst.Call)
        if len(changed.args) < len(node.args) or not any(
            changed.args[index] is not node.args[index] for index in silent
        ):
            yield changed


INSTEAD: dict[Any, Any] = {operator_string: strings, operator_arg_removal: arguments}
OPERATORS = [(kind, INSTEAD.get(operator, operator)) for kind, operator in mutation_operators]


class Places(MutationVisitor):
    """mutmut's visitor, also inside decorated functions and tables, with the place of each mutation."""

    def __init__(self) -> None:
        super().__init__(OPERATORS, IgnoredCode(set(), set(), set()))
        self.places: list[tuple[int, tuple[int, int] | None]] = []
        self._fields: set[cst.CSTNode] = set()

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef):
            self._fields.update(line for line in node.body.body if isinstance(line, cst.SimpleStatementLine))
        if node in self._fields or m.matches(node, ONLY_FOR_TYPES | PUBLIC_NAMES):
            return True
        if isinstance(node, cst.FunctionDef):
            return False
        return bool(super()._skip_node_and_children(node))

    def _create_mutations(self, node: cst.CSTNode) -> None:
        super()._create_mutations(node)
        for mutation in self.mutations[len(self.places) :]:
            around = mutation.contained_by_top_level_function
            at = self.get_metadata(PositionProvider, node)
            span = self.get_metadata(PositionProvider, around) if isinstance(around, cst.FunctionDef) else None
            self.places.append((at.start.line, (span.start.line, span.end.line) if span else None))


class File:
    """A file and every place where it can be changed; the changed sources are made when they are asked for."""

    def __init__(self, root: Path, path: Path) -> None:
        self.name, self.text = str(path.relative_to(root)), path.read_text("utf-8")
        self._wrapper, self._visitor = MetadataWrapper(cst.parse_module(self.text)), Places()
        self._wrapper.visit(self._visitor)

    def __len__(self) -> int:
        return len(self._visitor.mutations)

    def mutant(self, index: int) -> Mutant | None:
        """One of them; None where it does not compile or changes nothing."""
        mutation, (line, span) = self._visitor.mutations[index], self._visitor.places[index]
        changed = deep_replace(self._wrapper.module, mutation.original_node, mutation.mutated_node)
        assert isinstance(changed, cst.Module)
        if changed.code == self.text or not _compiles(changed.code):
            return None
        before, after = (
            " ".join(self._wrapper.module.code_for_node(n).split())
            for n in (mutation.original_node, mutation.mutated_node)
        )
        return Mutant(self.name, line, span, before, after, changed.code)


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True
