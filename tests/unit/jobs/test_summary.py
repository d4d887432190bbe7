"""The report is readable on a terminal and in a file."""

from dataclasses import replace
from datetime import datetime
from io import StringIO

import pytest
from rich.console import Console

from tradingbot.cli.run_output import show
from tradingbot.errors import SpaceUnavailable, UnknownSymbol
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar, Reconstruction
from tradingbot.jobs.summary import RunSummary, TickerOutcome

FRIDAY, MONDAY, TUESDAY = datetime(2024, 3, 8), datetime(2024, 3, 11), datetime(2024, 3, 12)


def forecast(symbol: str, price: float) -> Forecast:
    bars = tuple(
        ForecastBar(
            step=step,
            target_date=day,
            open=price,
            high=price,
            low=price,
            close=price,
            volume=1.0,
            close_quantiles={level: price * (0.95 + 0.1 * level) for level in QUANTILE_LEVELS},
            prob_up=0.55,
        )
        for step, day in ((1, MONDAY), (2, TUESDAY))
    )
    return Forecast(symbol, "1d", "kronos-nano", None, FRIDAY, FRIDAY, price, 20, 1, bars)


def shown(tickers: dict[str, TickerOutcome], *, rows: int = 0, width: int = 80) -> list[str]:
    out = StringIO()
    summary = RunSummary(tickers=tickers, rows=rows, database="sqlite:///kronos.db")
    show(summary, Console(file=out, width=width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_each_ticker_has_a_row_per_day_with_range_and_outcome() -> None:
    actual = {MONDAY: 501.25, TUESDAY: 560.0}
    tickers = {
        "SPY": TickerOutcome("stored", forecast("SPY", 500.0), actual=actual),
        "EURUSD=X": TickerOutcome("already_there", forecast("EURUSD=X", 1.1)),
    }
    assert shown(tickers, rows=2) == [
        "",
        "                        Last",
        "Ticker    As of        close        Date  Forecast  10–90 % range  P(up)   Actual",  # noqa: RUF001
        "SPY       2024-03-08  500.00  Mon 11 Mar    500.00  480.00–520.00    55%   501.25",  # noqa: RUF001
        "                              Tue 12 Mar    500.00  480.00–520.00    55%  560.00*",  # noqa: RUF001
        "",
        "EURUSD=X  2024-03-08  1.1000  Mon 11 Mar    1.1000  1.0560–1.1440    55%",  # noqa: RUF001
        "                              Tue 12 Mar    1.1000  1.0560–1.1440    55%",  # noqa: RUF001
        "",
        "Model    kronos-nano (not meant for trading), 20 paths per ticker; Forecast: mean close, "
        "P(up): share above the last close",
        "Actual   1 of 2 closes lie inside their 10–90 % range (* outside)",  # noqa: RUF001
        "Stored   1 ticker (2 rows) now, 1 ticker already there: "
        "kronos_predictions in sqlite:///kronos.db",
        "Next     kronosbot status  runs, and the age of forecasts",
        "         kronosbot report  report.html: the quality of forecasts",
    ]


def test_no_price_is_cut_short_on_a_narrow_terminal() -> None:
    tickers = {"BTC-USD": TickerOutcome("stored", forecast("BTC-USD", 61234.5))}
    for width in (40, 80, 200):
        text = "\n".join(shown(tickers, width=width))
        assert "61234.50" in text
        assert "58785.12–63683.88" in text  # noqa: RUF001
        assert "Actual" not in text, "nothing is known of the future"


def test_tiny_prices_show_enough_digits() -> None:
    cheap = {
        "SHIB-USD": TickerOutcome("stored", forecast("SHIB-USD", 1.4e-05)),
        "HBAR-USD": TickerOutcome("stored", forecast("HBAR-USD", 0.25)),
    }
    text = "\n".join(shown(cheap))
    assert "0.000014000" in text
    assert "0.000013440–0.000014560" in text  # noqa: RUF001
    assert "0.25000" in text


def test_tickers_with_the_same_failure_share_a_line() -> None:
    errors = {
        "A": SpaceUnavailable("the Space is out of reach"),
        "B": SpaceUnavailable("the Space is out of reach"),
        "C": UnknownSymbol("unknown", symbol="C"),
    }
    tickers = {symbol: TickerOutcome("failed", failure=error) for symbol, error in errors.items()}
    assert shown(tickers) == [
        "Stored   nothing: kronos_predictions in sqlite:///kronos.db",
        "Failed   A, B: the Space is out of reach",
        "         C: unknown",
    ]
    details = RunSummary(tickers=tickers).details()
    assert details["failed_by_kind"] == {"SpaceUnavailable": ["A", "B"], "UnknownSymbol": ["C"]}
    assert details["failed"]["C"] == "C: unknown"


def test_a_run_notes_how_far_reconstructed_last_closes_are_off() -> None:
    of_older_space = TickerOutcome("stored", forecast("A", 100.0))
    assert RunSummary(tickers={"A": of_older_space}).details()["reconstruction_error"] is None

    def read_as(close: float) -> Forecast:
        return replace(forecast("B", 100.0), reconstruction=Reconstruction(close, 100 / close))

    tickers = {
        "A": of_older_space,
        "B": TickerOutcome("stored", read_as(99.0)),
        "C": TickerOutcome("stored", read_as(102.0)),
        "D": TickerOutcome("stored", read_as(-50.0)),
        "E": TickerOutcome("already_there", read_as(300.0)),
    }
    details = RunSummary(tickers=tickers).details()
    assert details["reconstruction_error"] == pytest.approx(0.02)


def test_a_warning_of_the_space_is_reported_once_with_its_tickers() -> None:
    odd = replace(forecast("A", 1.0), warnings=("a gap",))
    tickers = {
        "A": TickerOutcome("stored", odd),
        "B": TickerOutcome("stored", replace(odd, symbol="B")),
        "C": TickerOutcome("already_there", replace(odd, symbol="C")),
    }
    assert RunSummary(tickers=tickers).remarks() == {"a gap": ["A", "B"]}


def test_reported_weights_are_means_over_combined_forecasts_and_others_are_named() -> None:
    first = {"kronos": 0.2, "random walk": 0.2, "ewma walk": 0.3, "range walk": 0.3}
    second = {"kronos": 0.4, "random walk": 0.4, "ewma walk": 0.2, "range walk": 0.0}
    tickers = {
        symbol: TickerOutcome(
            "stored",
            replace(
                forecast(symbol, 10.0),
                calibration="raw" if shares is None else "combined until 2024-03-07, n=900",
                shares=shares,
            ),
        )
        for symbol, shares in {"NEW": None, "SPY": first, "BTC-USD": second}.items()
    }
    output = [line for line in shown(tickers, width=200) if "Ranges" in line or "own range" in line]
    assert output == [
        "Ranges   40 % volatility model, 30 % random walk, 30 % Kronos "
        "(combined until 2024-03-07, n=900)",
        "         Kronos' own range for NEW: too few outcomes to combine it",
    ]
