"""The plan of the house holds: where SQL, imports and the environment stand, how long a module is.

Which way imports may point is checked by import-linter, in `make lint`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from kronos_space.deployment.contents import NOT_SERVED, uploaded_files
from tests.support import ROOT

MODULES = sorted(
    path for package in ("kronos_space", "tradingbot") for path in (ROOT / package).rglob("*.py")
)
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
SQL = re.compile(r"\bSELECT\b|\bon_conflict_do_|\bexecute\(")
# What of SQLAlchemy makes a statement, and the methods of a session or connection that run one.
STATEMENTS = {"delete", "func", "insert", "select", "text", "update"}
RUNS = {"delete", "exec_driver_sql", "execute", "get", "merge", "query", "scalar", "scalars"}
SQL_MAY_STAND = (
    "tradingbot/persistence/",
    "tradingbot/bots/repository.py",
    "tradingbot/postprocessing/repository.py",
)
# Typer's command bodies, the public faces, and a process that must know its settings first.
MAY_IMPORT_LATE = (
    "tradingbot/cli/",
    "tradingbot/utils/",
    "tradingbot/kronosbot.py",
    "tradingbot/kronostraderbot.py",
    "kronos_space/__main__.py",
    "kronos_space/deployment/commands.py",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_is_read_in_one_sitting(name: str) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= 300


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(SQL_MAY_STAND)])
def test_sql_stands_in_repositories_only(name: str) -> None:
    assert SQL.findall((ROOT / name).read_text()) == []
    assert list(_sql(ast.parse((ROOT / name).read_text()))) == []


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
def test_what_hands_a_session_on_is_no_sql(code: str) -> None:
    assert not list(_sql(ast.parse(code)))


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("tradingbot/")])
def test_the_environment_is_read_in_one_module_only(name: str) -> None:
    reads = re.search(r"\bos\.(environ|getenv)\b", (ROOT / name).read_text())
    assert bool(reads) == (name == "tradingbot/environment.py")


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(MAY_IMPORT_LATE)])
def test_our_own_packages_are_imported_at_the_top(name: str) -> None:
    assert list(_late_imports(ROOT / name)) == []


def test_every_file_of_the_service_is_named_in_what_is_uploaded() -> None:
    """A new file of kronos_space belongs into kronos_space/deployment/contents.py, or below
    NOT_SERVED."""
    folder = ROOT / "kronos_space"
    listed = uploaded_files(folder)
    kinds = {path.suffix for path in listed.values()}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.suffix in kinds}
    served = {name for name in there if name.partition("/")[0] not in NOT_SERVED}
    assert served <= listed.keys()


def test_packages_stand_on_at_most_ten_levels() -> None:
    graph = grimp.build_graph("tradingbot", exclude_type_checking_imports=True)
    below: dict[str, set[str]] = {}
    for module in graph.modules - {"tradingbot"}:
        top = module.split(".")[1]
        imported = graph.find_modules_directly_imported_by(module) - {"tradingbot"}
        below.setdefault(top, set()).update({name.split(".")[1] for name in imported} - {top})

    def level(top: str) -> int:
        return 1 + max(map(level, below[top]), default=0)

    assert max(map(level, below)) <= 10


def _sql(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = any(alias.name.split(".")[0] == "sqlalchemy" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found = (node.module or "").split(".")[0] == "sqlalchemy" and bool(names & STATEMENTS)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value).split(".")[-1]
            found = owner in ("session", "connection") and node.func.attr in RUNS
        else:
            continue
        if found:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def _late_imports(path: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
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
