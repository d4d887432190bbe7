"""Shared fixtures: a Space process, a Postgres server and SQLite files for each worker."""

import gc
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.postgres import Postgres, running_postgres
from tests.support.schema import compiling_once, upgrade_at_once
from tests.support.space_server import serving
from tradingbot.persistence import engine
from tradingbot.persistence.engine import dispose_engines, init_db

# Must precede the import of torch: its idle threads then leave the CPU to others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# runs `uname` once here, instead of in the first test that creates an OpenAI client
platform.processor()
# The developer's settings and terminal width do not affect the tests.
OURS = ("KRONOS_", "POSTGRES_", "HF_TOKEN", "HF_SPACE", "DATABASE_URL", "COLUMNS", "LINES")
for name in [name for name in os.environ if name.startswith(OURS)]:
    del os.environ[name]
# Collecting garbage among millions of imported objects is slow; they are frozen after collection.
gc.disable()
TESTS = Path(__file__).parent
_numbers = count()


MARKED = ("integration", "browser", "chart", "chaos", "docs", "images")  # folders
NOT_FAST = (*MARKED, "slow")
TOO_SLOW = 6.0  # CPU seconds; a test of one second takes longer on a busy machine
# a test with one of these fixtures starts a process
OF_A_PROCESS = {"space_url", "postgres_server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder and by its fixtures; `make test-fast` skips these marks."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARKED:
            item.add_marker(folder)
        fixtures = set(getattr(item, "fixturenames", ()))
        # its Postgres parameter has the mark itself
        if "database" in fixtures:
            fixtures -= {"postgres_server"}
        if fixtures & OF_A_PROCESS:
            item.add_marker("integration")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def space_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Space process with the bundled model, shared by the tests of a worker."""
    with serving(tmp_path_factory.mktemp("space") / "server.log", KRONOS_API_KEY="") as server:
        yield server.url


@pytest.fixture(autouse=True)
def fast_unless_marked(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fail a test of the fast tier that starts a process or takes too much CPU time."""
    if any(map(request.node.get_closest_marker, NOT_FAST)):
        yield
        return

    def refuse(command: object, *args: object, **kwargs: object) -> None:
        pytest.fail(f"starts {command}: mark the test with pytest.mark.integration")

    monkeypatch.setattr(subprocess.Popen, "__init__", lambda _, *args, **__: refuse(*args))
    monkeypatch.setattr(commands, "_order", refuse)
    began = time.process_time()
    yield
    took = time.process_time() - began
    if took > TOO_SLOW:
        pytest.fail(f"takes {took:.1f} s of a CPU: mark the test with pytest.mark.slow")


@pytest.fixture(scope="session", autouse=True)
def statements_are_compiled_once() -> Iterator[None]:
    """Share compiled SQL statements between the tests, whose engines are separate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "create_engine", compiling_once(engine.create_engine))
        yield


@pytest.fixture(autouse=True)
def schema_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create the schema of SQLite databases without the migrations, which is faster."""
    if request.node.get_closest_marker("migrations") is None:
        monkeypatch.setattr(engine, "upgrade", upgrade_at_once)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A running Postgres; every xdist worker starts one."""
    with running_postgres() as server:
        yield server
        dispose_engines()


@pytest.fixture(scope="session")
def database_with_schema(postgres_server: Postgres) -> str:
    """The name of a database without rows, to copy."""
    postgres_server.execute("CREATE DATABASE with_schema STRATEGY FILE_COPY")
    init_db(postgres_server.url("with_schema"))
    dispose_engines()  # a database in use cannot be copied
    return "with_schema"


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, postgres_server: Postgres) -> Iterator[str]:
    """A new database on the real server, which takes a few hundredths of a second.

    It has the schema and no rows. With the marker `migrations` or `no_tables` it has no tables.
    """
    name, template = f"test_{next(_numbers)}", "template1"
    if not any(map(request.node.get_closest_marker, ("migrations", "no_tables"))):
        template = request.getfixturevalue("database_with_schema")
    postgres_server.execute(  # FILE_COPY takes half the CPU
        f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"
    )
    yield postgres_server.url(name)
    dispose_engines()
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a SQLite file that does not exist yet."""
    yield f"sqlite:///{tmp_path / 'kronos.db'}"
    dispose_engines()


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=pytest.mark.integration)],
)
def database(request: pytest.FixtureRequest) -> str:
    """The URL of a database without rows, once on SQLite and once on Postgres."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
