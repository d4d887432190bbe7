"""`kronosbot report` as a process: its file, its one line, its exit codes."""

from pathlib import Path

import pytest

from tests.support.command_line import kronosbot
from tests.support.records import Past
from tradingbot.persistence.engine import get_db_session


@pytest.mark.integration
def test_report_writes_one_file_and_describes_it(tmp_path: Path, database: str) -> None:
    Past(["AAPL", "GOOG"], sessions=8).store(database)
    (tmp_path / "report.html").write_text("an old one")
    done = kronosbot("report", folder=tmp_path, DATABASE_URL=database)
    assert (done.returncode, done.stderr) == (0, "")
    output = done.stdout.strip()
    assert output.startswith(
        "report.html: 2 tickers, 50 earlier forecasts against their outcome; 2."
    )
    assert [file.name for file in tmp_path.iterdir() if "kronos.db" not in file.name] == [
        "report.html"
    ]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o644  # readable by a web server


@pytest.mark.integration
def test_report_uses_candle_files_if_the_database_has_no_candles(
    tmp_path: Path, sqlite_url: str
) -> None:
    past = Past(["AAPL"], sessions=8).store(sqlite_url, candles=False, source="csv:candles")
    (tmp_path / "candles").mkdir()
    rows = [
        f"{bar['timestamp']:%Y-%m-%d},{bar['open']},{bar['high']},{bar['low']},{bar['close']}"
        for bar in past.candles("AAPL")
    ]
    file = tmp_path / "candles" / "AAPL.csv"
    file.write_text("\n".join(["date,open,high,low,close", *rows]))
    done = kronosbot("report", "--out", "here.html", folder=tmp_path, DATABASE_URL=sqlite_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 ticker, 25 earlier forecasts" in done.stdout


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 1, "there is no sqlite:///kronos.db yet: `kronosbot run` fills it"),
        (("--out", "missing/report.html"), 2, "cannot be written: No such file or directory; give"),
        (("--out", "."), 2, "--out='.' is not a file; expected one such as report.html"),
        (("--source", "nasdaq"), 2, "--source='nasdaq': expected yahoo, sample or csv:DIR"),
        (("--backtest", "no.csv"), 2, "no.csv is not there; `kronosbot backtest` makes such files"),
        (("--backtest", "b.csv", "--source", "sample"), 2, "has its own candles: no --source"),
        (("--symbols", ","), 2, "--symbols=',': expected tickers, such as SPY,QQQ"),
    ],
)
def test_a_mistake_is_reported_in_one_line_with_an_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = kronosbot("report", *arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_an_empty_database_leaves_the_old_report_as_it_was(tmp_path: Path, sqlite_url: str) -> None:
    with get_db_session(sqlite_url):
        pass
    (tmp_path / "report.html").write_text("an old one")
    done = kronosbot("report", folder=tmp_path, DATABASE_URL=sqlite_url)
    assert done.returncode == 1
    assert "has no daily forecast: run `kronosbot run`" in done.stderr
    assert (tmp_path / "report.html").read_text() == "an old one"
