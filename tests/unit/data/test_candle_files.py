"""The job's reader, on files as people have them; the page's is tested with the same table."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from tests.support.candle_files import CandleFile, every_candle_file
from tradingbot.data.sources.csv_candles import read_csv
from tradingbot.errors import DataError


def read(folder: Path, case: CandleFile) -> pd.DataFrame:
    file = folder / f"{case.file}.csv"
    file.write_bytes(case.content)
    return read_csv(file)


@every_candle_file
def test_a_file_is_read_as_it_is_meant_or_refused_with_the_reason(
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
