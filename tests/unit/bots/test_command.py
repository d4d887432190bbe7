"""`bot.main()`: its options, and keyword parameters of bots."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.market import Market, ScriptedBot
from tradingbot.bots.bot import Bot
from tradingbot.bots.kronos_trader import KronosTraderBot
from tradingbot.errors import ConfigError
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import BotRow, RunLog, Trade

Output = pytest.CaptureFixture[str]


@pytest.fixture
def bot(tmp_path: Path, sqlite_url: str) -> Any:
    market = Market(tmp_path / "candles")
    market.write("AAPL", [100.0 + i % 5 for i in range(40)])
    market.write("IBM", [50.0] * 40)
    return market.bot(ScriptedBot, sqlite_url, tickers=["AAPL"], answers={"AAPL": 1, "IBM": 1})


def run(bot: Any, *arguments: str) -> Any:
    with pytest.raises(SystemExit) as end:
        bot.main(arguments)
    return end.value.code


def rows(url: str) -> int:
    with get_db_session(url) as session:
        return sum(session.query(table).count() for table in (BotRow, Trade, RunLog))


@pytest.mark.parametrize(
    "arguments",
    [["--hepl"], ["--dryrun"], ["-x"], ["--symbols"], ["--backtest", "2024-01-01"]],
)
def test_unknown_options_trade_nothing(
    bot: Any, sqlite_url: str, arguments: list[str], capsys: Output
) -> None:
    assert run(bot, *arguments) == 2
    assert arguments[0].lstrip("-") in capsys.readouterr().err
    assert rows(sqlite_url) == 0


def test_positional_arguments_are_left_to_the_script(bot: Any, sqlite_url: str) -> None:
    assert run(bot, "candles/", "7", "-1", "-0.5", "-.5", "-2.", "-1e-5", "-") == 0
    assert rows(sqlite_url) == 3


def test_help_names_the_options_and_trades_nothing(
    bot: Any, sqlite_url: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["mybot.py", "--help"])
    with pytest.raises(SystemExit) as end:
        bot.main()
    assert end.value.code == 0
    output = capsys.readouterr().out
    for option in ("--source", "--symbols", "--database-url", "--dry-run", "--backtest", "--json"):
        assert option in output
    assert "Exit codes" in output
    assert rows(sqlite_url) == 0


def test_a_dry_run_decides_and_stores_nothing(bot: Any, sqlite_url: str, capsys: Output) -> None:
    assert run(bot, "--dry-run") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "b (dry run: nothing is stored)"
    assert "bought" in "\n".join(printed)
    assert rows(sqlite_url) == 0
    assert run(bot) == 0
    assert rows(sqlite_url) == 3
    assert run(bot, "--dry-run") == 0
    assert rows(sqlite_url) == 3


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--backtest", "2024-04-01", "2024-05-10"]])
@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_dry_run_creates_no_database(
    bot: Any, tmp_path: Path, arguments: list[str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "none" / "yet.db"
    file.parent.mkdir()
    if how == "option":
        arguments = [*arguments, "--database-url", f"sqlite:///{file}"]
    else:
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{file}")
        bot._sessions = None
    for _ in range(2):
        assert run(bot, *arguments) == 0
        assert list(file.parent.iterdir()) == []


def test_a_dry_run_reads_the_position_and_changes_no_row(bot: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    bot.use(database_url=url)
    bot.run()
    before = dump(url)
    done = bot.run(dry_run=True)
    assert done.decisions[0].traded_before
    assert done.portfolio["AAPL"] > 0
    bot.backtest()
    assert dump(url) == before


def test_a_dry_run_upgrades_no_schema(bot: Any, tmp_path: Path, capsys: Output) -> None:
    file, url = tmp_path / "old.db", f"sqlite:///{tmp_path / 'old.db'}"
    with closing(sqlite3.connect(file)) as old, old:
        old.execute("CREATE TABLE kronos_schema_version (version_num VARCHAR(32) NOT NULL)")
        old.execute("INSERT INTO kronos_schema_version VALUES ('0001')")
    before = file.read_bytes()
    assert run(bot, "--dry-run", "--database-url", url) == 1
    assert "has an older schema, and a dry run does not upgrade it" in capsys.readouterr().err
    assert file.read_bytes() == before


def dump(url: str) -> list[str]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        return list(database.iterdump())


def test_options_replace_source_tickers_and_database(
    bot: Any, sqlite_url: str, tmp_path: Path, capsys: Output
) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    arguments = ["--source", "sample", "--symbols", "ibm,msft", "--database-url", other, "--json"]
    assert run(bot, *arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["decisions"]) == ["IBM", "MSFT"]
    assert printed["portfolio"].keys() == {"USD", "IBM", "MSFT"}
    assert [trade["symbol"] for trade in printed["trades"]] == ["IBM"]
    assert (rows(sqlite_url), rows(other)) == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--source", "nonsense"], "--source='nonsense': expected yahoo"),
        (["--symbols", ","], "--symbols=',': expected tickers"),
        (["--database-url", "mysql://x/y"], "not supported"),
        (["--backtest", "2024-01-01", "yesterday"], "--backtest='yesterday': expected a day"),
        (["--backtest", "2024-05-01", "2024-01-01"], "expected FROM before TO"),
    ],
)
def test_a_wrong_value_is_a_one_line_error_with_exit_code_2(
    bot: Any, sqlite_url: str, arguments: list[str], says: str, capsys: Output
) -> None:
    assert run(bot, *arguments) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert rows(sqlite_url) == 0


def test_a_backtest_is_printed_and_stores_nothing(
    bot: Any, sqlite_url: str, capsys: Output
) -> None:
    assert run(bot, "--backtest", "2024-04-01", "2024-05-10") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("2024-04-01 to 2024-05-10: ")
    assert shown.endswith("Note: AAPL: its dividends are unknown, and not credited\n")
    assert run(bot, "--backtest", "2024-04-01", "2024-05-10", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["measures"].keys() == printed["buy_and_hold"].keys()
    assert printed["notes"] == ["AAPL: its dividends are unknown, and not credited"]
    assert printed["hit_rate"] is None, "nothing was sold"
    assert printed["trades"][0]["side"] == "buy"
    assert len(printed["equity"]) == 30
    assert rows(sqlite_url) == 0


@pytest.mark.parametrize("days", [("2030-01-01", "2031-01-01"), ("2024-04-06", "2024-04-07")])
def test_a_backtest_of_a_span_without_bars_names_the_span(
    bot: Any, capsys: Output, days: tuple[str, str]
) -> None:
    assert run(bot, "--backtest", *days) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"Error: AAPL: no bars from {days[0]} to {days[1]}: give other days"


# keywords ----------------------------------------------------------------------------------


def test_a_list_of_tickers_may_be_the_second_argument() -> None:
    assert Bot("x", ["AAPL", "ibm"]).tickers == ("AAPL", "IBM")
    assert Bot("x", ("AAPL", "IBM"), tickers=["SPY"]).tickers == ("AAPL", "IBM", "SPY")
    assert Bot("x", "AAPL,IBM").tickers == ("AAPL", "IBM")
    with pytest.raises(ConfigError, match="symbol=5: expected text"):
        Bot("x", 5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected text"):
        Bot("x", [5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("kind", "given", "meant"),
    [
        (Bot, "intervall", "interval"), (Bot, "Interval", "interval"), (Bot, "peroid", "period"),
        (Bot, "ticker", "tickers"), (Bot, "sesions", "sessions"), (Bot, "setings", "settings"),
        (Bot, "fil", "fill"), (Bot, "sybmol", "symbol"), (Bot, "dat", "data"),
        (KronosTraderBot, "treshold", "threshold"), (KronosTraderBot, "minprob", "min_prob"),
        (KronosTraderBot, "horizn", "horizon"), (KronosTraderBot, "min_skil", "min_skill"),
        (KronosTraderBot, "intervall", "interval"),
    ],
)  # fmt: skip
def test_a_misspelt_keyword_is_refused_with_the_one_that_was_meant(
    kind: type[Bot], given: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=f"{given}=: did you mean {meant}="):
        kind("x", "AAPL", **{given: "1h"})


def test_custom_keywords_are_parameters() -> None:
    class Own(Bot):
        def __init__(self, *args: Any, window: int = 5, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.window = window

    given = {"client": 1, "answers": 2, "fast": 3, "slow": 4, "threshold": 5, "model": 6}
    assert Own("x", "AAPL", window=3, **given).params == given
    with pytest.raises(ConfigError, match=r"windw=: did you mean window="):
        Own("x", "AAPL", windw=3)


class Tuned(ScriptedBot):
    """A strategy with keyword parameters of all types."""

    def __init__(
        self,
        *args: Any,
        window: int = 20,
        level: float | None = None,
        mode: "Literal['fast', 'slow']" = "fast",
        short=False,
        client: object = None,
        weights: tuple[float, ...] = (1.0,),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if window < 1:
            raise ConfigError(f"window={window!r}: expected 1 or more")
        self.window, self.level, self.mode, self.short = window, level, mode, short

    def decisionFunction(self, row: Any) -> int:
        self.reason = f"{self.window} {self.level} {self.mode} {self.short} {self.params}"
        return 0


@pytest.fixture
def tuned(tmp_path: Path, sqlite_url: str) -> Any:
    market = Market(tmp_path / "candles")
    market.write("AAPL", [100.0 + i % 5 for i in range(40)])
    return market.bot(Tuned, sqlite_url, tickers=["AAPL"], window=30, depth=3, table={"a": 1})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "30 None fast False {'depth': 3, 'table': {'a': 1}}"),
        (["--window", "5", "--level", "-0.5"], "5 -0.5 fast False"),
        (["--mode", "slow", "--short"], "30 None slow True"),
        (["--depth", "4"], "30 None fast False {'depth': 4, 'table': {'a': 1}}"),
    ],
)
def test_keywords_of_a_strategy_are_options(
    tuned: Any, arguments: list[str], reason: str, capsys: Output
) -> None:
    assert run(tuned, "--json", *arguments) == 0
    [decision] = json.loads(capsys.readouterr().out)["decisions"].values()
    assert decision["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "0"], "window=0: expected 1 or more"),
        (["--window", "x"], "valid integer"),
        (["--fill", "noon"], "fill='noon'"),
        (["--period", "soon"], "soon"),
        (["--client", "x"], "--client"),
        (["--weights", "1"], "--weights"),
    ],
)
def test_a_wrong_value_of_a_keyword_ends_with_2_and_trades_nothing(
    tuned: Any, sqlite_url: str, arguments: list[str], message: str, capsys: Output
) -> None:
    assert run(tuned, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert rows(sqlite_url) == 0


def test_help_names_the_keywords_of_a_strategy_and_their_values(tuned: Any, capsys: Output) -> None:
    assert run(tuned, "--help") == 0
    output = " ".join(capsys.readouterr().out.split())
    for text in ("--window", "Default: 30.", "--short", "--depth", "--interval", "--period"):
        assert text in output
    for name in ("--client", "--weights", "--table", "--name", "--tickers"):
        assert name not in output
