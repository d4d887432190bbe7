"""The job's reader on common candle files; the page's reader is tested with the same table."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.candle_files import CandleFile, every_candle_file
from tradingbot.data.sources.csv_candles import read_csv
from tradingbot.errors import DataError


def read(folder: Path, case: CandleFile) -> pd.DataFrame:
    file = folder / f"{case.file}.csv"
    file.write_bytes(case.content)
    return read_csv(file)


@every_candle_file
def test_a_file_is_read_correctly_or_refused_with_the_reason(
    tmp_path: Path, case: CandleFile
) -> None:
    if case.refused:
        with pytest.raises(DataError) as caught:
            read(tmp_path, case)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{tmp_path / case.file}.csv")
        for words in case.refused:
            assert str(words).lower() in message.lower()
        return
    rows = read(tmp_path, case)
    zoned = any(time.tzinfo for time, *_ in case.expected())
    assert rows.attrs["zoned"] == zoned
    bars = rows.dropna(subset="close").sort_values("instant", kind="stable")
    found = [
        (instant.to_pydatetime().replace(tzinfo=UTC if zoned else None), *numbers)
        for instant, *numbers in bars.drop(columns="day").fillna(0.0).itertuples(index=False)
    ]
    assert found == [(_utc(time), *numbers) for time, *numbers in case.expected()]
    days = {time.replace(hour=0, minute=0, tzinfo=None) for time, *_ in case.expected()}
    assert set(bars["day"]) == days
    notes = "; ".join(rows.attrs["notes"])
    assert bool(case.notes) == bool(notes)
    assert all(words in notes for words in case.notes)


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time


@dataclass(frozen=True)
class Dialect:
    """How a program or a person writes candles, drawn at random."""

    separator: str
    date: str
    decimal: str
    thousands: str
    names: list[str]
    newest_first: bool
    encoding: str

    def number(self, value: float) -> str:
        whole, fraction = f"{value:,.2f}".split(".")
        text = whole.replace(",", self.thousands) + self.decimal + fraction
        return f'"{text}"' if self.separator in text else text

    def file(self, bars: pd.DataFrame) -> bytes:
        """Write the columns in random order, with an irrelevant one between them."""
        rows = [[self.names[0], "Remark", *self.names[:0:-1]]]
        for time, *numbers in bars.itertuples():
            date = f'"{time:{self.date}}"'
            rows.append([date, "x", *map(self.number, reversed(numbers))])
        if self.newest_first:
            rows[1:] = rows[:0:-1]
        return "\r\n".join(self.separator.join(row) for row in rows).encode(self.encoding)


_DIALECTS = st.builds(
    Dialect,
    separator=st.sampled_from([",", ";", "\t", "|"]),
    date=st.sampled_from(
        [
            *("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y%m%d", "%b %d, %Y"),
            *("%d-%b-%y", "%Y/%m/%d 00:00", "%Y.%m.%d 00:00:00", "%Y-%m-%dT00:00:00"),
        ]
    ),
    decimal=st.just("."),
    thousands=st.sampled_from(["", ",", "'", " "]),
    names=st.sampled_from(
        [
            ["Date", "Open", "High", "Low", "Close", "Volume"],
            ["<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"],
            ["timestamps", "1. open", "2. high", "3. low", "4. close", "5. volume"],
            ["Datum", "Eröffnung", "Hoch", "Tief", "Schlusskurs", "Volumen"],
            ["Data", "Abertura", "Máxima", "Mínima", "Fechamento", "Volume"],
        ]
    ),
    newest_first=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)


@given(
    dialect=_DIALECTS,
    comma=st.booleans(),
    closes=st.lists(st.floats(0.01, 1e6), min_size=20, max_size=20),
)
@settings(max_examples=30, deadline=None)
def test_any_csv_dialect_gives_the_same_candles(
    tmp_path_factory: pytest.TempPathFactory, dialect: Dialect, comma: bool, closes: list[float]
) -> None:
    if comma:
        thousands = dialect.thousands.replace(",", ".")
        dialect = replace(dialect, decimal=",", thousands=thousands)
    days = pd.date_range("2026-01-05", periods=20, freq="B")
    close = pd.Series(closes, index=days)
    bars = pd.DataFrame(
        {"open": close, "high": close * 2, "low": close / 2, "close": close, "volume": close * 9}
    ).round(2)
    file = tmp_path_factory.mktemp("dialect") / "SPY.csv"
    file.write_bytes(dialect.file(bars))
    rows = read_csv(file).sort_values("day").set_index("day")
    pd.testing.assert_frame_equal(
        rows[list(bars)], bars, check_freq=False, check_names=False, check_index_type=False
    )
