"""`kronosbot status --format prometheus`, as a cron job runs it for node_exporter."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import kronosbot
from tests.support.prometheus import check_metrics
from tests.support.records import Past


def test_the_metrics_are_printed_or_written_to_a_complete_file(
    tmp_path: Path, sqlite_url: str
) -> None:
    Past(["AAPL", "MSFT"], sessions=2).store(sqlite_url)
    settings = {"DATABASE_URL": sqlite_url, "KRONOS_EXTRA_SYMBOLS": "AAPL"}
    printed = kronosbot("status", "--format", "prometheus", folder=tmp_path, **settings)
    assert (printed.returncode, printed.stderr) == (1, ""), "AAPL is stale by now"
    assert '\nkronosbot_active_tickers{state="stale"} 1.0\n' in printed.stdout
    check_metrics(printed.stdout)

    out = tmp_path / "kronosbot.prom"
    out.write_text("old")
    written = kronosbot(
        "status", "--format", "prometheus", "--out", str(out), folder=tmp_path, **settings
    )
    assert (written.returncode, written.stdout, written.stderr) == (1, "", "")
    assert out.stat().st_mode & 0o777 == 0o644, "node_exporter is somebody else"

    def names(text: str) -> list[str]:
        return [line.split()[0] for line in text.splitlines()]

    assert names(out.read_text()) == names(printed.stdout)
    assert [path.name for path in tmp_path.iterdir() if "prom" in path.name] == ["kronosbot.prom"]


def test_a_database_out_of_reach_is_written_to_the_file_too(tmp_path: Path) -> None:
    url = "postgresql://me:s3cret@127.0.0.1:9/kronos"
    out = tmp_path / "kronosbot.prom"
    done = kronosbot(
        "status", "--format", "prometheus", "--out", str(out), folder=tmp_path, DATABASE_URL=url
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: database postgresql+psycopg2://me:***@127.0.0.1:9/kronos")
    assert "\nkronosbot_up 0.0\n" in out.read_text()
    assert "s3cret" not in out.read_text() + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x.prom"], "--out='x.prom' goes with --format prometheus"),
        (["--format", "xml"], "--format='xml': expected text, json or prometheus"),
        (["--format", "prometheus", "--out", "no/x.prom"], "--out='no/x.prom' cannot be written"),
        (["--format", "prometheus", "--source", "csv:no"], "no such folder"),
    ],
)
def test_senseless_options_are_refused(
    arguments: list[str], words: str, tmp_path: Path, sqlite_url: str
) -> None:
    Past(["AAPL"], sessions=1).store(sqlite_url)
    done = kronosbot("status", *arguments, folder=tmp_path, DATABASE_URL=sqlite_url)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


def test_format_json_equals_the_json_option(tmp_path: Path, sqlite_url: str) -> None:
    Past(["AAPL"], sessions=1).store(sqlite_url)
    done = kronosbot("status", "--format", "json", folder=tmp_path, DATABASE_URL=sqlite_url)
    assert json.loads(done.stdout)["runs"][0]["error"] is None
