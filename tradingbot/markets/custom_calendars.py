"""The user's own assignment of tickers to exchanges, in the file KRONOS_CALENDARS.

One ticker per line, with the name of its exchange in exchange_calendars:

  GER40,XFRA
  MYCOIN,24/7
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from tradingbot.environment import environment

VARIABLES = {
    "KRONOS_CALENDARS": "file with a line `TICKER,EXCHANGE` for each ticker whose exchange is not "
    "recognised ([market data](../concepts/market-data.md#what-candles-must-be))"
}


def custom_calendars() -> Mapping[str, str]:
    """Return exchange codes by ticker.

    Raises:
        ValueError: The file cannot be read.
    """
    path = environment().get("KRONOS_CALENDARS", "").strip()
    if not path:
        return {}
    file = Path(path).expanduser()
    try:
        return _read(file, file.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"KRONOS_CALENDARS={path!r}: cannot be read: {error}") from error


@lru_cache(maxsize=4)
def _read(file: Path, _changed: int) -> Mapping[str, str]:
    found = {}
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        text = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if not text or [word.lower() for word in text] == ["ticker", "exchange"]:
            continue
        if len(text) != 2 or not _is_calendar(text[1]):
            raise ValueError(
                f"KRONOS_CALENDARS={str(file)!r} line {number}: {line.strip()!r}: expected a "
                "ticker and the code of its exchange in exchange_calendars, such as GER40,XFRA "
                "or MYCOIN,24/7"
            )
        found[text[0].upper()] = text[1]
    return found


def _is_calendar(code: str) -> bool:
    from exchange_calendars import get_calendar_names

    return code in get_calendar_names()
