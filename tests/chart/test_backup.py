"""The chart's backup and restore jobs, with the real tools on a real Postgres."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine, make_url, select

from tests.support.charts import find, pods, rendered
from tests.support.postgres import PASSWORD, USER, Postgres
from tradingbot.persistence.engine import dispose_engines, get_db_session, init_db
from tradingbot.persistence.partitions import partition_ledger

MADE = 2000  # rows in the database


@pytest.fixture
def tools(postgres_server: Postgres) -> Path:
    """The folder of pg_dump and pg_restore in the server's version, as in the postgres image."""
    [[folder]] = postgres_server.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    return Path(folder)


@pytest.fixture
def other_url(postgres_server: Postgres) -> Iterator[str]:
    """An empty database, like that of a new server."""
    postgres_server.execute("CREATE DATABASE restored")
    yield postgres_server.url("restored")
    dispose_engines()
    postgres_server.execute("DROP DATABASE restored WITH (FORCE)")


@pytest.fixture
def ledger(postgres_url: str) -> str:
    """A database with rows in it."""
    init_db(postgres_url)
    engine = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg2"))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO historic_data"
            " (symbol, interval, timestamp, open, high, low, close, volume)"
            f" SELECT 'T' || n, '1d', now(), 1, 2, 1, 2, 9 FROM generate_series(1, {MADE}) n"
        )
    engine.dispose()
    return postgres_url


def run(what: str, address: dict[str, str], folder: Path, tools: Path, **env: str) -> str:
    """Run the CronJob's script; return its output, or fail with it."""
    [container] = pods(rendered(ci="backup"))[f"tradingbots-{what}"]["containers"]
    path = {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*container["command"], *container["args"]],
        env={**path, "BACKUP_FOLDER": str(folder), **address, **env},
        capture_output=True, text=True,
    )  # fmt: skip
    assert PASSWORD not in done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"{done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def by_url(url: str) -> dict[str, str]:
    return {"DATABASE_URL": url.replace("postgresql://", "postgresql+psycopg2://")}


def by_parts(url: str) -> dict[str, str]:
    address = make_url(url)
    return {
        "POSTGRES_HOST": str(address.query["host"]),
        "POSTGRES_USER": USER,
        "POSTGRES_PASSWORD": PASSWORD,
        "POSTGRES_DATABASE": str(address.database),
    }


def contents(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"))
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        found = {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in tables.sorted_tables
        }
    engine.dispose()
    return found


@pytest.mark.parametrize("named", [by_url, by_parts])
def test_a_backup_restores_lost_rows(
    named: object, ledger: str, other_url: str, tools: Path, tmp_path: Path
) -> None:
    assert callable(named)
    output = run("backup", named(ledger), tmp_path, tools, KEEP="14")
    assert re.search(r" [1-9]\d* tables; kept: 1 of at most 14$", output)
    [backup] = tmp_path.glob("kronos-*.dump")
    assert not Path(f"/tmp/{backup.name}.list").exists()  # nothing is left elsewhere
    run("restore", named(other_url), tmp_path, tools)
    assert contents(other_url) == contents(ledger)
    assert len(contents(other_url)["historic_data"]) == MADE


def test_a_restore_replaces_existing_rows(
    ledger: str, postgres_server: Postgres, tools: Path, tmp_path: Path
) -> None:
    before = contents(ledger)
    run("backup", by_url(ledger), tmp_path, tools, KEEP="2")
    database = str(make_url(ledger).database)
    postgres_server.execute("DELETE FROM historic_data WHERE symbol < 'T5'", database=database)
    postgres_server.execute("DROP TABLE kronos_scores", database=database)
    run("restore", by_url(ledger), tmp_path, tools)
    assert contents(ledger) == before


@pytest.mark.parametrize("partitioned", ["before", "after", "both"])
def test_a_restore_handles_a_partitioned_ledger(
    partitioned: str, ledger: str, postgres_server: Postgres, tools: Path, tmp_path: Path
) -> None:
    """The ledger was partitioned in the backup, only in the restored database, or in both."""
    if partitioned != "after":
        partition(ledger)
    before = contents(ledger)
    run("backup", by_url(ledger), tmp_path, tools, KEEP="2")
    if partitioned == "after":
        partition(ledger)
    elif partitioned == "before":  # the restore goes into a new, unpartitioned database
        database = str(make_url(ledger).database)
        postgres_server.execute("DROP TABLE kronos_forecasts CASCADE", database=database)
    run("restore", by_url(ledger), tmp_path, tools)
    assert contents(ledger) == before


def partition(url: str) -> None:
    with get_db_session(url) as session:
        partition_ledger(session.connection(), datetime(2026, 11, 28))


def test_a_damaged_backup_changes_nothing(ledger: str, tools: Path, tmp_path: Path) -> None:
    before = contents(ledger)
    run("backup", by_url(ledger), tmp_path, tools, KEEP="2")
    [backup] = tmp_path.glob("kronos-*.dump")
    backup.write_bytes(backup.read_bytes()[:-4000])
    with pytest.raises(RuntimeError, match=r"pg_restore: error"):
        run("restore", by_url(ledger), tmp_path, tools)
    assert contents(ledger) == before


def test_the_newest_backups_are_kept_and_other_files_untouched(
    postgres_url: str, tools: Path, tmp_path: Path
) -> None:
    for day in range(1, 6):
        (tmp_path / f"kronos-2026110{day}T003500Z.dump").write_text(f"of day {day}")
    (tmp_path / "notes.txt").write_text("mine")
    run("backup", by_url(postgres_url), tmp_path, tools, KEEP="3")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[:2] == ["kronos-20261104T003500Z.dump", "kronos-20261105T003500Z.dump"]
    assert names[2].startswith(f"kronos-{time.strftime('%Y')}")
    assert names[3:] == ["notes.txt"]


def test_a_failed_backup_removes_none_and_leaves_no_partial_file(
    tools: Path, tmp_path: Path
) -> None:
    (tmp_path / "kronos-20261101T003500Z.dump").write_text("of day 1")
    nowhere = {"DATABASE_URL": f"postgresql://{USER}:{PASSWORD}@127.0.0.1:1/kronos"}
    with pytest.raises(RuntimeError, match="Connection refused"):
        run("backup", nowhere, tmp_path, tools, KEEP="1")
    assert [path.name for path in tmp_path.iterdir()] == ["kronos-20261101T003500Z.dump"]


@pytest.mark.parametrize(
    ("what", "env", "says"),
    [
        ("backup", {}, r"2: no database: set DATABASE_URL or POSTGRES_\* in the secret"),
        ("backup", {"DATABASE_URL": "sqlite:///kronos.db"}, "2: the database is a SQLite file"),
        ("restore", by_url("postgresql://h/d"), "2: a backup: not found; available:"),
        (
            "restore",
            {**by_url("postgresql://h/d"), "RESTORE_FILE": "a.dump"},
            "2: a.dump: not found",
        ),
    ],
)
def test_impossible_configurations_are_explained_in_one_line(
    what: str, env: dict[str, str], says: str, tools: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=says):
        run(what, env, tmp_path, tools, KEEP="1")


def test_the_restore_is_manual_and_uses_the_same_database() -> None:
    objects = rendered(ci="backup")
    backup = find(objects, "CronJob", "tradingbots-backup")
    restore = find(objects, "CronJob", "tradingbots-restore")
    assert (backup["spec"]["suspend"], restore["spec"]["suspend"]) == (False, True)
    [one], [other] = (pods(objects)[f"tradingbots-{what}"]["containers"]
                      for what in ("backup", "restore"))  # fmt: skip
    assert [env for env in one["env"] if env["name"] != "KEEP"] == other["env"]
    assert one["volumeMounts"] == other["volumeMounts"]


def test_the_backup_volume_survives_the_release_and_can_be_your_own() -> None:
    claim = find(rendered(ci="backup"), "PersistentVolumeClaim", "tradingbots-backup")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    objects = rendered("--set", "backup.existingClaim=elsewhere", ci="backup")
    assert not [item for item in objects if item["kind"] == "PersistentVolumeClaim"]
    [volume] = [volume for volume in pods(objects)["tradingbots-backup"]["volumes"]
                if volume["name"] == "backup"]  # fmt: skip
    assert volume["persistentVolumeClaim"] == {"claimName": "elsewhere"}
