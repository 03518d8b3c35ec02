"""The house rules about what stands in relation to what: import circles, start-up without torch, the glossary."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klimb.tracking.metrics import Metric

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "klimb"


def circles(edges: dict[str, set[str]]) -> list[str]:
    """The import circles, each as `a -> b -> a`, found by a walk in depth."""
    found: list[str] = []
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.append(" -> ".join([*way[way.index(name) :], name]))
        elif name not in done:
            for following in sorted(edges.get(name, ())):
                walk(following, [*way, name])
            done.add(name)

    for name in sorted(edges):
        walk(name, [])
    return found


def imported(path: Path) -> set[str]:
    """The klimb modules that a file imports when it is itself imported (not inside functions, not for types only)."""
    names: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("klimb.")}


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {
        ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p
        for p in PACKAGE.rglob("*.py")
    }
    edges = {
        name: {other for other in imported(path) if other in modules and other != name}
        for name, path in modules.items()
    }
    assert circles(edges) == []


def test_the_circle_check_finds_a_planted_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a -> b -> c -> a"]


def loads_torch(statement: str) -> bool:
    """Whether a fresh Python has torch or transformers loaded after this statement."""
    code = f"{statement}\nimport sys\nprint('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.split()[-1] == "True"


def test_settings_and_the_command_line_load_without_torch() -> None:
    assert not loads_torch("import klimb.cli, klimb.cli.app, klimb.recipe, klimb.types, klimb.errors")


def test_the_torch_check_sees_torch() -> None:
    assert loads_torch("import klimb.batch")


METRIC = re.compile(
    r'"((?:reward|outcome|group|policy|objective|optim|length|tokens|eval|time|memory|bandit|value)/[a-z_]+)"'
    r'|\bstage\("([a-z_]+)"\)'
)


def metrics_named(source: str) -> set[str]:
    """The metrics that a file names, and `time/<stage>` for each stage that it times."""
    return {name or f"time/{stage}" for name, stage in METRIC.findall(source)}


def strangers(names: set[str], glossary: tuple[Metric, ...]) -> list[str]:
    """The names without an entry of their own. Entries such as `policy/<name>` are for users' names, not for ours."""
    return sorted(names - {metric.name for metric in glossary})


def test_every_metric_that_is_named_in_the_code_stands_in_the_glossary() -> None:
    from klimb.tracking import metrics

    used = {name for path in PACKAGE.rglob("*.py") for name in metrics_named(path.read_text("utf-8"))}
    assert "time/sample" in used
    assert strangers(used, metrics.GLOSSARY) == []


def test_the_metric_check_finds_planted_names() -> None:
    from klimb.tracking import metrics

    planted = metrics_named('{"policy/nonsense": 1.0}; watch.stage("nowhere")')
    assert strangers(planted, metrics.GLOSSARY) == ["policy/nonsense", "time/nowhere"]
