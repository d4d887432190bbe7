"""The code keeps its structure: where SQL, imports and the environment are, and module sizes.

import-linter checks the allowed import directions in `make lint`.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
import typer

from kronos_space.deployment import commands
from kronos_space.deployment.contents import NOT_SERVED, uploaded_files
from tests.support import ROOT
from tradingbot.cli import main

MODULES = sorted(
    path for package in ("kronos_space", "tradingbot") for path in (ROOT / package).rglob("*.py")
)
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in MODULES}
SQL = re.compile(r"\bSELECT\b|\bon_conflict_do_|\bexecute\(")
# SQLAlchemy's statement constructors, and the methods of sessions and connections that run one.
STATEMENTS = {"delete", "func", "insert", "select", "text", "update"}
RUNS = {"delete", "exec_driver_sql", "execute", "get", "merge", "query", "scalar", "scalars"}
SQL_MAY_STAND = (
    "tradingbot/persistence/",
    "tradingbot/bots/repository.py",
    "tradingbot/postprocessing/repository.py",
)
# Public modules and command entry points; Typer commands are checked separately.
MAY_IMPORT_LATE = (
    "tradingbot/utils/",
    "tradingbot/kronosbot.py",
    "tradingbot/kronostraderbot.py",
    "tradingbot/cli/entry.py",
    "tradingbot/cli/trader_entry.py",
    "kronos_space/__main__.py",
)


def test_no_module_is_too_long() -> None:
    lengths = {name: len(text.splitlines()) for name, text in TEXTS.items()}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_sql_is_only_in_repositories() -> None:
    found = {
        name: [*SQL.findall(TEXTS[name]), *_sql(_tree(name))]
        for name in TEXTS
        if not name.startswith(SQL_MAY_STAND)
    }
    assert {name: sql for name, sql in found.items() if sql} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import sqlalchemy as sa",
        "from sqlalchemy import Row, select",
        "from sqlalchemy.dialects.postgresql import insert",
        "session.query(Trade)",
        "self.session.get(Trade, 1)",
        "[row for row in session.scalars(newest)]",
        "connection.scalar(newest)",
    ],
)
def test_sql_is_recognised(code: str) -> None:
    assert list(_sql(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "from sqlalchemy.orm import Session",
        "from sqlalchemy.exc import SQLAlchemyError",
        "session.flush()",
        "with sessions() as session: latest(session)",
        "history.get('AAPL')",
    ],
)
def test_passing_a_session_on_does_not_count_as_sql(code: str) -> None:
    assert not list(_sql(ast.parse(code)))


def test_the_environment_is_read_in_one_module_only() -> None:
    reads = re.compile(r"\bos\.(environ|getenv)\b")
    readers = [name for name, text in TEXTS.items() if reads.search(text)]
    assert sorted(readers) == ["kronos_space/environment.py", "tradingbot/environment.py"]


def test_our_own_packages_are_imported_at_the_top() -> None:
    """Exceptions: the body of a command, and the methods of a command's class."""
    bodies = {*_command_bodies(main.app), *_command_bodies(commands.app), "RunCommand.refuse"}
    names = [name for name in TEXTS if not name.startswith(MAY_IMPORT_LATE)]
    found = {name: list(_late_imports(_tree(name), bodies)) for name in names}
    assert {name: late for name, late in found.items() if late} == {}


def _command_bodies(app: typer.Typer) -> Iterator[str]:
    for command in (app.registered_callback, *app.registered_commands):
        if command and command.callback:
            yield command.callback.__qualname__
    for group in app.registered_groups:
        if group.typer_instance:
            yield from _command_bodies(group.typer_instance)


def test_every_file_of_the_service_is_in_the_upload_list() -> None:
    """A new file of kronos_space belongs into kronos_space/deployment/contents.py, or below
    NOT_SERVED."""
    folder = ROOT / "kronos_space"
    listed = uploaded_files(folder)
    kinds = {path.suffix for path in listed.values()}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.suffix in kinds}
    served = {name for name in there if name.partition("/")[0] not in NOT_SERVED}
    assert served <= listed.keys()


def test_every_package_has_tests_without_a_process() -> None:
    """`make test-fast` runs what is below tests/unit."""
    packages = {".".join(Path(name).parts[:-1][:2]) for name in TEXTS if name.count("/") > 1}
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "unit").rglob("test_*.py"))
    imported = re.compile(r"^ *(?:from|import) (\w+\.\w+)", re.MULTILINE)
    assert packages - set(imported.findall(tests)) == set()


def test_a_package_describes_itself_in_one_sentence() -> None:
    logged = {
        name: (ast.get_docstring(_tree(name)) or "").splitlines()
        for name in TEXTS
        if re.search(r"/(?!versions)\w+/__init__.py$", name)
    }
    assert {name: lines for name, lines in logged.items() if len(lines) != 1} == {}


@pytest.mark.parametrize("package", ["kronos_space", "tradingbot"])
def test_there_are_no_import_cycles(package: str) -> None:
    """Imports for type annotations count too."""
    graph = grimp.build_graph(package, cache_dir=None)
    below = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    list(TopologicalSorter(below).static_order())  # raises CycleError


def test_packages_form_at_most_ten_layers() -> None:
    graph = grimp.build_graph("tradingbot", exclude_type_checking_imports=True, cache_dir=None)
    below: dict[str, set[str]] = {}
    for module in graph.modules - {"tradingbot"}:
        top = module.split(".")[1]
        imported = graph.find_modules_directly_imported_by(module) - {"tradingbot"}
        below.setdefault(top, set()).update({name.split(".")[1] for name in imported} - {top})

    def level(top: str) -> int:
        return 1 + max(map(level, below[top]), default=0)

    assert max(map(level, below)) <= 10


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(TEXTS[name])


def _sql(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = any(alias.name.split(".")[0] == "sqlalchemy" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found = (node.module or "").split(".")[0] == "sqlalchemy" and bool(names & STATEMENTS)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found = node.func.attr in RUNS and _name(node.func.value) in ("session", "connection")
        else:
            continue
        if found:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def _name(owner: ast.expr) -> str:
    return ast.unparse(owner).split(".")[-1]


def _functions(tree: ast.Module | ast.ClassDef, within: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield each outermost function with its qualified name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{within}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{within}{node.name}", node


def _late_imports(tree: ast.Module, allowed: set[str]) -> Iterator[str]:
    for name, function in _functions(tree):
        if name in allowed:
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            else:
                continue
            for module in imported:
                if module.split(".")[0] in ("kronos_space", "tradingbot"):
                    yield f"line {node.lineno}: {module}"
