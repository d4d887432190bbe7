"""The import paths of the specification exist, and their modules contain no code."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tradingbot

FOLDER = Path(tradingbot.__file__).parent
FACES = [
    "__init__.py",
    "kronosbot.py",
    "kronostraderbot.py",
    "utils/__init__.py",
    "utils/core/__init__.py",
    "utils/db.py",
    "utils/kronos_client.py",
]

BOT_NAMES = {
    "AsyncKronosClient": "tradingbot.client",
    "Bot": "tradingbot.bots.bot",
    "KronosClient": "tradingbot.client",
    "forecasts_as_of": "tradingbot.bots.forecast_columns",
    "get_db_session": "tradingbot.persistence.engine",
    "kronos_forecast": "tradingbot.ai.forecast_tool",
    "run_ai_with_tools": "tradingbot.ai.agent",
    "run_ai_with_tools_async": "tradingbot.ai.agent",
}
ENGINE_NAMES = ["dispose_engines", "get_db_session", "get_engine", "init_db"]
MODEL_NAMES = [
    "Base", "BotRow", "HistoricData", "KronosCalibration", "KronosCombination", "KronosForecast",
    "KronosPrediction", "KronosScore", "RunLog", "Trade",
]  # fmt: skip
URL_NAMES = ["database_url", "redact"]

HOMES: dict[str, dict[str, str]] = {
    "tradingbot": BOT_NAMES,
    "tradingbot.utils.core": BOT_NAMES,
    "tradingbot.utils.kronos_client": {
        name: BOT_NAMES[name] for name in ("KronosClient", "kronos_forecast")
    },
    "tradingbot.utils.db": {
        **dict.fromkeys(ENGINE_NAMES, "tradingbot.persistence.engine"),
        **dict.fromkeys(MODEL_NAMES, "tradingbot.persistence.models"),
        **dict.fromkeys(URL_NAMES, "tradingbot.persistence.url"),
    },
    "tradingbot.kronostraderbot": {
        "KronosTraderBot": "tradingbot.bots.kronos_trader",
        "main": "tradingbot.cli.trader_entry",
    },
    "tradingbot.kronosbot": {"main": "tradingbot.cli.entry"},
}


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in HOMES.items() for name in names]
)
def test_a_public_path_gives_the_same_object_as_its_package(path: str, name: str) -> None:
    home = import_module(HOMES[path][name])
    assert getattr(import_module(path), name) is getattr(home, name)


@pytest.mark.parametrize("path", HOMES)
def test_a_public_path_lists_all_its_names(path: str) -> None:
    module = import_module(path)
    assert sorted(module.__all__) == sorted(HOMES[path])
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize(
    "path", ["tradingbot", "tradingbot.utils.core", "tradingbot.utils.kronos_client"]
)
def test_an_unknown_name_is_an_attribute_error(path: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{path}' has no attribute 'Prophet'"):
        _ = import_module(path).Prophet


def test_the_package_exports_the_names_for_bots() -> None:
    from tradingbot import Bot, KronosClient, get_db_session, kronos_forecast, run_ai_with_tools

    given = (Bot, KronosClient, get_db_session, kronos_forecast, run_ai_with_tools)
    assert all(map(callable, given[:3]))
    assert kronos_forecast.name == "kronos_forecast"


@pytest.mark.integration
def test_importing_the_package_loads_no_other_part_of_it() -> None:
    code = "import json, sys, tradingbot.utils.core; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(done.stdout) if name.startswith("tradingbot")}
    assert loaded == {"tradingbot", "tradingbot.utils", "tradingbot.utils.core"}


@pytest.mark.integration
def test_the_commands_help_loads_no_library_of_the_job() -> None:
    code = (
        "import atexit, json, runpy, sys\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
        "sys.argv[1:] = ['--help']\n"
        "runpy.run_module('tradingbot.kronosbot', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Try it" in done.stdout
    heavy = {"numpy", "pandas", "sqlalchemy", "psycopg2", "torch", "langchain_core", "yfinance"}
    assert not heavy & set(json.loads(done.stderr))


@pytest.mark.parametrize("face", FACES)
def test_a_public_path_contains_no_code(face: str) -> None:
    program = ast.parse((FOLDER / face).read_text())
    assert ast.get_docstring(program)
    assert [ast.unparse(part) for part in program.body[1:] if not _only_passes_on(part)] == []


def test_all_modules_of_utils_are_public_paths() -> None:
    there = {str(path.relative_to(FOLDER)) for path in (FOLDER / "utils").rglob("*.py")}
    assert there == {face for face in FACES if face.startswith("utils/")}


def _only_passes_on(part: ast.stmt) -> bool:
    """Return whether a module has only imports, a table of names, lazy lookup and a command's
    start.
    """
    match part:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign(targets=[ast.Name(id="__all__" | "__version__" | "_MODULES")]):
            return True
        case ast.FunctionDef(name="__getattr__" | "__dir__"):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body, orelse=[]):
            return all(isinstance(line, ast.ImportFrom) for line in body)
        case ast.If(test=test, body=body, orelse=[]):
            program = [ast.unparse(line) for line in body]
            return ast.unparse(test) == "__name__ == '__main__'" and program == ["main()"]
    return False
