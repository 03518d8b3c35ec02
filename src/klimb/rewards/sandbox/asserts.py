"""Assert lines taken apart: what the code under test computes, and the comparison, which it never sees.

`assert add(1, 2) == 3` becomes the call `add(1, 2)`, which is asked of the code under test, and `v0 == 3`, which is
judged elsewhere with the value that came back. Neither the expected value nor the verdict is within that code's reach.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 1 << 16
"""Letters of the tests of one prompt."""
BUILT_IN = frozenset(dir(builtins))
PLACE = "klimb_value_"


class NoTest(Exception):
    """Why a text is no test that can be judged."""


@dataclass(frozen=True, slots=True)
class Tests:
    """The asserts of one prompt. `setup` are lines without code under test, which both sides run first."""

    setup: str
    calls: tuple[str, ...]
    """What is asked of the code under test, over all asserts."""
    claims: tuple[str, ...]
    """One expression for each assert, over the names `klimb_value_0`, `klimb_value_1` ..."""

    def asking(self) -> str:
        """The module whose CALLS are made where the code under test runs."""
        return f"{self.setup}\nCALLS = [{', '.join(f'lambda: ({call})' for call in self.calls)}]\n"

    def judging(self, values: Sequence[str | None]) -> tuple[str, list[int]]:
        """The module whose CALLS are judged with literals for the values, and the asserts it holds: those with all."""
        kept, told = [], []
        for number, claim in enumerate(self.claims):
            needed = sorted(_places(claim))
            if all(values[one] is not None for one in needed):
                kept.append(number)
                names = ", ".join(f"{PLACE}{one}" for one in needed)
                given = ", ".join(str(values[one]) for one in needed)
                told.append(f"lambda: (lambda {names}: bool({claim}))({given})")
        return f"{self.setup}\nCALLS = [{', '.join(told)}]\n", kept


def _places(claim: str) -> set[int]:
    names = (node.id for node in ast.walk(ast.parse(claim)) if isinstance(node, ast.Name))
    return {int(name.removeprefix(PLACE)) for name in names if name.startswith(PLACE)}


def asserts_of(lines: str, setup: str = "") -> Tests:
    """The tests in a text of `assert` lines. Raises NoTest."""
    if len(lines) + len(setup) > LONGEST:
        raise NoTest(f"tests of more than {LONGEST} letters")
    try:
        before, body = ast.parse(setup).body, ast.parse(lines).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NoTest(f"tests that are not Python: {error}") from error
    asserts = [line for line in body if isinstance(line, ast.Assert)]
    before += [line for line in body if not isinstance(line, ast.Assert)]
    if not asserts:
        raise NoTest("tests without an assert")
    known = BUILT_IN | {name for line in before for name in _bound(line)}
    _check(before, known)
    split = _Split(known)
    claims = tuple(ast.unparse(split.visit(line.test)) for line in asserts)
    return Tests("\n".join(ast.unparse(line) for line in before), tuple(split.calls), claims)


def _check(before: Sequence[ast.stmt], known: frozenset[str]) -> None:
    """Raises NoTest where the setup needs the code under test, which is not there where the asserts are judged."""
    nodes = [node for line in before for node in ast.walk(line)]
    own = {node.arg for node in nodes if isinstance(node, ast.arg)} | {
        node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    for node in nodes:
        if isinstance(node, ast.Name) and node.id not in known | own:
            raise NoTest(f"a line of the setup needs the code under test: {node.id}")


def _bound(line: ast.stmt) -> set[str]:
    """The names that a line of the setup gives; what it computes must not need the code under test."""
    if isinstance(line, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in line.names}
    if isinstance(line, ast.FunctionDef | ast.ClassDef):
        return {line.name}
    if isinstance(line, ast.Assign) and all(isinstance(target, ast.Name) for target in line.targets):
        return {target.id for target in line.targets if isinstance(target, ast.Name)}
    raise NoTest(f"a line that is neither an assert, an import, a definition nor a value: {ast.unparse(line)[:60]}")


class _Split(ast.NodeTransformer):
    """Replaces every largest expression that starts at a name of the code under test by a place for its value."""

    def __init__(self, known: frozenset[str]) -> None:
        self.calls: list[str] = []
        self._known, self._inner = known, frozenset[str]()

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.comprehension | ast.Lambda | ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom):
            self._plain(node)
        root = node
        while isinstance(root, ast.Call | ast.Attribute | ast.Subscript):
            root = root.func if isinstance(root, ast.Call) else root.value
        if not isinstance(root, ast.Name) or root.id in self._known | self._inner:
            return self._within(node)
        if self._inner & {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}:
            raise NoTest(f"the code under test is called inside a loop or a lambda: {ast.unparse(node)[:60]}")
        assert isinstance(node, ast.expr)
        self.calls.append(ast.unparse(node))
        return ast.Name(f"{PLACE}{len(self.calls) - 1}", ast.Load())

    def _plain(self, node: ast.AST) -> None:
        if not isinstance(node, ast.comprehension | ast.Lambda):
            raise NoTest("an assert that binds a name or waits")

    def _within(self, node: ast.AST) -> ast.AST:
        """The same for the parts of an expression, with the names that it binds itself."""
        outer = self._inner
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            targets = [one for part in node.generators for one in ast.walk(part.target)]
            self._inner |= {one.id for one in targets if isinstance(one, ast.Name)}
        elif isinstance(node, ast.Lambda):
            self._inner |= {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
        done = self.generic_visit(node)
        self._inner = outer
        return done
