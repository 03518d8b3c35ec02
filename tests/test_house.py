"""The house rules that ruff, mypy and import-linter cannot say, each with a proof that its check can fail."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.watched import CORE, pauses

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "klimb"
CODE = sorted(path for folder in ("src", "tests", "bench", "examples") for path in (ROOT / folder).rglob("*.py"))
OURS = [path for path in CODE if "tests" not in path.relative_to(ROOT).parts]
TESTS = [path for path in CODE if path.name.startswith("test_")]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "torch.load", "torch.save"}
FORBIDDEN |= {"yaml.load", "yaml.unsafe_load", "os.system", "joblib.load", "marshal.loads", "shelve.open"}
ASSERTIONS = re.compile(r"\b(raises|fail|warns|assert_\w+|assert\w*)$")


def named(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute, else nothing."""
    if isinstance(node, ast.Attribute):
        return f"{named(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTION))


def long_file(source: str) -> list[str]:
    count = len(source.splitlines())
    return [f"{count} lines, more than 250"] if count > 250 else []


def long_functions(source: str) -> list[str]:
    sizes = ((f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions(ast.parse(source)))
    return [f"{name} has {size} lines, more than 50" for name, size in sizes if size > 50]


def forbidden_calls(source: str) -> list[str]:
    """Calls that run code or data of unknown origin."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            if named(node.func) in FORBIDDEN:
                faults.append(f"line {node.lineno}: {named(node.func)}")
            for word in node.keywords:
                trusting = word.arg == "trust_remote_code" and getattr(word.value, "value", True) is not False
                if trusting or (word.arg == "shell" and getattr(word.value, "value", False) is True):
                    faults.append(f"line {node.lineno}: {word.arg}")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            faults += [
                f"line {node.lineno}: import {name}" for name in names & {"pickle", "cloudpickle", "dill", "shelve"}
            ]
    return faults


def silent_tests(source: str) -> list[str]:
    """Tests without an assertion of any kind, their own or through a helper of the same file that asserts."""

    def asserts(node: ast.AST, helpers: frozenset[str] = frozenset()) -> bool:
        calls = {named(call.func).rpartition(".")[2] for call in ast.walk(node) if isinstance(call, ast.Call)}
        plain = any(isinstance(inner, ast.Assert) for inner in ast.walk(node))
        return plain or bool(calls & helpers) or any(ASSERTIONS.match(call) for call in calls)

    every = list(functions(ast.parse(source)))
    helpers = frozenset(f.name for f in every if not f.name.startswith("test_") and asserts(f))
    return [f"{f.name} asserts nothing" for f in every if f.name.startswith("test_") and not asserts(f, helpers)]


def documented_methods(source: str) -> set[str]:
    classes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))
    return {n.name for node in classes for n in node.body if isinstance(n, FUNCTION) and ast.get_docstring(n)}


@cache
def contract() -> set[str]:
    """The methods that a class of the package documents."""
    return {name for path in PACKAGE.rglob("*.py") for name in documented_methods(path.read_text("utf-8"))}


def undocumented(source: str) -> list[str]:
    """Public classes, functions and methods without a docstring; a method that fills in a base's is said there."""
    faults = []
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, *FUNCTION)) and not node.name.startswith("_"):
            inner = [n for n in node.body if isinstance(n, FUNCTION)] if isinstance(node, ast.ClassDef) else []
            checked = [node, *(n for n in inner if not n.name.startswith("_") and n.name not in contract())]
            faults += [f"{n.name} has no docstring" for n in checked if not ast.get_docstring(n)]
    return faults


def paths_of_this_machine(source: str) -> list[str]:
    found = re.findall(r"(?<![\w.])/(?:work|root|home|tmp/w)/\w+", source)
    return [f"a path of one machine: {path}" for path in found]


CHECKS: list[tuple[Callable[[str], list[str]], list[Path], str]] = [
    (long_file, CODE, "x = 1\n" * 251),
    (long_functions, CODE, "def f():\n" + "    x = 1\n" * 50),
    (forbidden_calls, OURS, "import torch\ntorch.load('x')"),
    (forbidden_calls, OURS, "import pickle"),
    (forbidden_calls, OURS, "f(trust_remote_code=True)"),
    (silent_tests, TESTS, "def test_nothing():\n    print(1)"),
    (undocumented, OURS, "class A:\n    '''A.'''\n    def undocumented(self): return 1"),
    (paths_of_this_machine, OURS, "open('/ro" + "ot/x')"),
]


@pytest.mark.parametrize(("check", "files"), {check: files for check, files, _ in CHECKS}.items())
def test_every_file_keeps_the_rule(check: Callable[[str], list[str]], files: list[Path]) -> None:
    faults = [f"{path.relative_to(ROOT)}: {fault}" for path in files for fault in check(path.read_text("utf-8"))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("check", "_files", "bad"), CHECKS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_rule_finds_a_planted_fault(check: Callable[[str], list[str]], _files: list[Path], bad: str) -> None:
    assert len(check(bad)) == 1


@pytest.mark.parametrize(
    "good",
    [
        "eval_step()",
        "yaml.safe_load(x)",
        "f(trust_remote_code=False)",
        "model.eval()",
        "subprocess.run([1], shell=False)",
    ],
)
def test_the_rule_against_forbidden_calls_leaves_others_alone(good: str) -> None:
    assert forbidden_calls(good) == []


def test_no_committed_text_holds_a_path_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    texts = [
        ROOT / name for name in listed.split("\0") if name.endswith((".md", ".toml", ".yaml", ".yml", ".txt", ".cfg"))
    ]
    faults = [
        f"{path.name}: {fault}"
        for path in texts
        if path.exists()
        for fault in paths_of_this_machine(path.read_text("utf-8"))
    ]
    assert not faults, "\n".join(faults)


def recipe_faults(source: str) -> list[str]:
    """A recipe has at most 30 lines, a header of four named facts, and is a mapping."""
    header = "\n".join(line for line in source.splitlines() if line.startswith("#")).lower()
    faults = [
        f"the header lacks '{word}:'" for word in ("paper", "hardware", "minutes", "sees") if f"{word}:" not in header
    ]
    if len(source.splitlines()) > 30:
        faults.append(f"{len(source.splitlines())} lines, more than 30")
    return faults if isinstance(yaml.safe_load(source), dict) else [*faults, "not a mapping"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_short_and_says_what_to_expect(path: Path) -> None:
    assert recipe_faults(path.read_text("utf-8")) == []


def test_the_recipe_check_finds_planted_faults() -> None:
    assert len(recipe_faults("# paper: x\n" + "a: 1\n" * 30)) == 4


@pytest.mark.parametrize(
    ("sources", "test", "wanted"),
    [
        ([f"klimb.{name}" for name in CORE], "tests/proving/test_laws.py::test_a", False),
        ([f"klimb.{name}" for name in CORE], "tests/rewards/proving/test_laws.py::test_a", True),
        ([f"klimb.{name}" for name in CORE], "tests/laws/test_objective_laws.py::test_a", True),
        (["klimb"], "tests/laws/test_objective_laws.py::test_a", True),
        (["klimb"], "tests/lens/test_browser.py::test_a", True),
        (["klimb"], "tests/training/test_step.py::test_a", False),
        (["klimb.training"], "tests/laws/test_objective_laws.py::test_a", False),
        ([True], "tests/laws/test_objective_laws.py::test_a", False),
        ([], "tests/laws/test_objective_laws.py::test_a", False),
    ],
)
def test_coverage_pauses_only_where_it_is_not_asked_for(sources: list[object], test: str, wanted: bool) -> None:
    assert pauses(sources, test) is wanted


def test_make_measures_the_packages_that_the_tests_know_as_the_core() -> None:
    assert f"\nCORE := {' '.join(CORE)}\n" in (ROOT / "Makefile").read_text("utf-8")


def test_coverage_of_the_core_is_paused_in_no_test_that_is_to_reach_it(request: pytest.FixtureRequest) -> None:
    control = getattr(request.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if control is None:
        pytest.skip("coverage is not measured")
    assert control.started is not pauses(request.config.getoption("cov_source"), request.node.nodeid)


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
