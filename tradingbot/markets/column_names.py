"""Names of candle columns in common programs and languages.

The Space's page reads files, too; a test compares the names with those of its `headings.js`.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tradingbot.typing import Floats

PRICES = ["open", "high", "low", "close"]

# The preferred name first, as written by `simplified`: lower case, no accents.
NAMES: dict[str, tuple[str, ...]] = {
    "time": (
        *("timestamp", "timestamps", "datetime", "date time", "date", "datum", "data", "fecha"),
        *(
            "trade date",
            "tradedate",
            "gmt time",
            "local time",
            "open time",
            "opentime",
            "time",
            "zeit",
        ),
        *("start at", "window start", "ts event", "dtyyyymmdd", "yyyymmdd", "unix", "unixtime"),
        *("ts", "t"),
        *("日期", "时间", "時間", "日付", "日時", "날짜", "일자", "дата"),
    ),
    "clock": ("time", "zeit", "uhrzeit", "heure", "hora", "ora", "tijd"),
    "open": (
        *("open", "opening", "eroffnung", "eroeffnung", "eroffn", "eroffnungskurs", "erster"),
        *("ouverture", "ouv", "abertura", "apertura", "otwarcie", "o", "开盘", "开盘价", "始値"),
        *("開盤", "開盤價", "시가", "открытие", "откр"),
    ),
    "high": (
        *(
            "high",
            "highest",
            "hoch",
            "hochst",
            "hochstkurs",
            "tageshoch",
            "plus haut",
            "haut",
            "hoog",
        ),
        *("maxima", "maximo", "massimo", "max", "najwyzszy", "h", "最高", "最高价", "高値"),
        *("最高價", "고가", "максимум", "макс"),
    ),
    "low": (
        *("low", "lowest", "tief", "tiefst", "tiefstkurs", "tagestief", "plus bas", "bas", "laag"),
        *("minima", "minimo", "min", "najnizszy", "l", "最低", "最低价", "安値"),
        *("最低價", "저가", "минимум", "мин"),
    ),
    "close": (
        *("close", "closing", "schluss", "schlusskurs", "cloture", "clot", "fechamento", "cierre"),
        *("chiusura", "zamkniecie", "slot", "last", "zuletzt", "dernier", "ultimo", "laatste"),
        *("latest", "price", "c", "收盘", "收盘价", "終値"),
        *("收盤", "收盤價", "종가", "закрытие", "цена"),
    ),
    "volume": (  # shares first: if both are present, a volume is in money
        *("stucke", "stuecke", "stuck", "shares", "number of shares", "no of shares"),
        *("shares traded", "total traded quantity", "quantity", "quantidade", "quantite"),
        *("volume", "vol", "volumen", "volumes", "volumefrom", "volume from", "wolumen", "v"),
        *(
            "trading volume",
            "traded volume",
            "volume traded",
            "total volume",
            "share volume",
            "qty",
        ),
        *("volym", "volum", "volumi", "objem", "hacim", "объем", "cantidad", "quantita", "aantal"),
        *("成交量", "交易量", "成交股数", "成交股數", "出来高", "売買高", "거래량"),
    ),
    "ticks": ("tickvol", "tick volume", "tickvolume", "ticks"),
    "symbol": (
        "symbol",
        "ticker",
        "pair",
        "unique id",
        "item id",
        "tic",
        "ts code",
        "stock",
        "name",
    ),
    # whether the bar is complete
    "complete": ("complete", "completed", "confirm", "confirmed", "is closed", "is final"),
}
# For these columns a heading must equal a name in NAMES: further words would change its meaning.
_EXACT = ("volume", "clock", "symbol", "ticks", "complete")
# Values of a "complete" column for a bar that was still running when the file was written.
RUNNING = frozenset(("false", "0", "no", "n"))
# A first column with one of these names is the index of a frame that was saved to a file.
_INDEX = ("", "index", "unnamed", "price", "ticker")
# A name followed by one of these words has another meaning: "open interest".
_OTHER = frozenset(
    (
        *("adj", "adjusted", "average", "avg", "change", "chg", "date", "int", "interest"),
        *("ma", "percent", "time", "type", "updated", "weighted", "zone"),
    )
)
# A name after one of these words has another meaning: "adj close", "close time".
_BEFORE = frozenset(
    ("adj", "adjusted", "avg", "close", "end", "ex", "expiry", "last", "pre", "prev", "previous")
)


@dataclass(frozen=True)
class Columns:
    """The positions of the columns."""

    position: dict[str, int]  # name -> position; without the `missing` names
    volumes: tuple[int, ...] = ()  # "Volume BTC" and "Volume USDT"
    # name -> a sentence on the columns that could each have this name
    doubled: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        return [name for name in ("time", *PRICES) if name not in self.position]


def simplified(heading: object) -> str:
    """Simplify a heading: "<CLOSE>", "4. close" -> "close"; "Eröffnung" -> "eroffnung"."""
    if isinstance(heading, tuple):
        heading = " ".join(map(str, heading))
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(heading))  # openTime
    text = unicodedata.normalize("NFKD", text).casefold().replace("%", " percent ")
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    text = unicodedata.normalize("NFC", text)  # Hangul
    text = re.sub(r"^\s*\d+[a-z]?\.\s+|\.\d+\s*$", "", text)  # "1. open"; pandas' "Open.1"
    return " ".join(re.findall(r"[^\W\d_]+", text))


def find_columns(headings: Sequence[object]) -> Columns:
    """Find the columns of candles. Others, such as "Adj Close", are ignored."""
    names = [simplified(heading) for heading in headings]
    position: dict[str, int] = {}
    doubled: dict[str, str] = {}
    for column in NAMES:
        places = _places(column, names)
        if column == "clock":
            places = [place for place in places if place != position.get("time")]
        if len(places) > 1 and column not in ("ticks", "symbol", "complete"):
            doubled[column] = _doubled(headings, places)
        if places:
            position[column] = places[0]
    first = names[0] or str(headings[0]).strip() if names else None
    if "time" not in position and first in _INDEX and 0 not in position.values():
        position["time"] = 0
    volumes: tuple[int, ...] = ()
    if "volume" not in position:
        volumes = tuple(i for i, name in enumerate(names) if _begins(name, "volume", "vol"))
        prefix = names[position["open"]].rpartition(" ")[0] if "open" in position else ""
        if prefix and f"{prefix} volume" in names:  # AAPL.Open, AAPL.Volume
            position["volume"] = names.index(f"{prefix} volume")
    return Columns(position, volumes, doubled)


def may_be_volume(heading: object, values: Floats, close: Floats) -> bool:
    """Return whether the numbers under an unknown heading could be volumes.

    They could be if most values are positive, none is negative, and the values differ from each
    other and from the price.
    """
    name = simplified(heading)
    words = set(name.split())
    if (
        name in ("", *_INDEX)
        or words & (_OTHER | _BEFORE)
        or any(name in known for known in NAMES.values())
    ):
        return False
    known = values[~np.isnan(values)]
    if 2 * len(known) < len(values) or (known < 0).any() or 2 * (known > 0).sum() <= len(known):
        return False
    with np.errstate(all="ignore"):  # a price of 0
        ratio = np.sort(values / close)  # NaN last
    price = ratio[np.isfinite(ratio).sum() // 2]
    return not 0.5 < price < 2 and (len(known) == 1 or float(np.ptp(known)) > 0)


def unknown_volume_note(headings: Sequence[object]) -> str:
    """Return the note on columns that could be the volume."""
    return (
        f"no volume: {' or '.join(map(str, headings))} could be it, but the heading is not known; "
        "if it counts what is traded, rename it to volume"
    )


def _places(column: str, names: Sequence[str]) -> list[int]:
    for known in NAMES[column]:
        if places := [i for i, name in enumerate(names) if name == known]:
            return places
    if column in _EXACT:
        return []
    words = [known for known in NAMES[column] if len(known) > 2 and " " not in known]
    for known in words:
        if places := [i for i, name in enumerate(names) if _begins(name, known)]:
            return places
    for known in (*words, *(known for known in NAMES[column] if len(known) == 1)):
        if places := [i for i, name in enumerate(names) if _ends(name, known)]:
            return places
    return []


def _begins(name: str, *known: str) -> bool:
    first, _, rest = name.partition(" ")
    return first in known and bool(rest) and rest.split()[0] not in _OTHER


def _ends(name: str, known: str) -> bool:
    *rest, last = name.split(" ")
    words = 1 if len(known) == 1 else 9  # a short prefix such as bid.o, but not a sentence
    return last == known and 1 <= len(rest) <= words and _BEFORE.isdisjoint(rest)


def _doubled(headings: Sequence[object], places: Iterable[int]) -> str:
    found = " and ".join(f"{headings[i]!s:.30} (column {i + 1})" for i in places)
    return f"{found} could each be meant; keep the columns of one ticker"
