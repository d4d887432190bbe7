"""Write a ticker's history as a request to a Space. `answers` reads the response."""

import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from tradingbot.errors import DataError, KronosError
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.markets.calendars import calendar_gap, next_sessions
from tradingbot.markets.candles import PRICES, checked_again, with_every_volume
from tradingbot.markets.data_quality import bar_length
from tradingbot.markets.fingerprint import bars_hash
from tradingbot.markets.intraday import market_zone, next_bars
from tradingbot.settings import TEMPERATURE, TOP_P


@dataclass(frozen=True)
class SeriesRequest:
    """The request for one ticker, ready to be sent in a batch."""

    symbol: str
    interval: str
    horizon: int
    as_of: datetime  # the newest bar of the history
    last_close: float
    highest: float  # highest price of the history
    samples: int
    seed: int
    bars_hash: str  # hash of the history
    targets: tuple[datetime, ...]  # empty: the Space infers the future timestamps
    body: bytes  # the JSON object
    notes: tuple[str, ...] = ()  # remarks on the targets for the user
    paths: bool = False  # whether sample paths are requested
    model: str | None = None  # name, for a Space with several models; None: its first

    @property
    def weight(self) -> int:
        """Return the bytes of the request, plus those of the requested paths."""
        return len(self.body) + (100 * self.samples * self.horizon if self.paths else 0)

    @property
    def answer_bytes(self) -> int:
        """Return the size limit of the response: several times the expected size."""
        return 4096 * self.horizon + (128 * self.samples * self.horizon if self.paths else 0)


logger = logging.getLogger(__name__)

Unsendable = tuple[str, KronosError]  # a ticker without a request, and the reason


def prepared(
    symbols: Iterable[str],
    history_of: Callable[[str], pd.DataFrame],
    horizon: int,
    *,
    interval: str,
    samples: int,
    seed: int | None = None,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    paths: bool = False,
    model: str | None = None,
) -> Iterator[SeriesRequest | Unsendable]:
    """Yield a request for each ticker, or the reason why there is none. See `prepare`.

    `history_of` returns a ticker's candles, or raises KronosError.
    """
    for symbol in symbols:
        try:
            if not isinstance(symbol, str):
                raise DataError("expected a ticker, as text", symbol=repr(symbol))
            yield prepare(
                symbol,
                history_of(symbol),
                horizon=horizon,
                interval=interval,
                samples=samples,
                seed=seed,
                temperature=temperature,
                top_p=top_p,
                paths=paths,
                model=model,
            )
        except KronosError as error:
            yield symbol, error


def prepare(
    symbol: str,
    history: pd.DataFrame,
    *,
    horizon: int,
    interval: str,
    samples: int,
    seed: int | None = None,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    paths: bool = False,
    model: str | None = None,
) -> SeriesRequest:
    """Check `history` and write a request for the `horizon` bars after it.

    `history` has any form that `normalised` reads. Naive intraday times are UTC. A missing volume
    among others counts as 0, with a warning. Daily targets are the exchange's sessions. Intraday
    targets are the exchange's bar times, sent as local times with their offset. If the bars are at
    other times, the Space infers the targets from the bars, with a warning.

    Raises:
        DataError: The history is not valid candles, or the calendar does not extend far enough.
    """
    history, notes = with_every_volume(checked_again(symbol, history, interval))
    for note in notes:
        logger.warning("%s: %s", symbol, note, extra={"symbol": symbol})
    last = history.index[-1].to_pydatetime()
    zone = None
    if interval == "1d":
        targets = next_sessions(symbol, last, horizon)
    else:
        targets = _within_days(symbol, pd.DatetimeIndex(history.index), interval, horizon)
        zone = market_zone(symbol) if targets else None
    gap = calendar_gap(symbol, targets[-1]) if targets else None
    request = encode(
        symbol,
        history,
        horizon=horizon,
        interval=interval,
        targets=targets,
        samples=samples,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        zone=zone,
        paths=paths,
        model=model,
    )
    if not targets:
        gap = "its bars do not match the exchange's hours: the next times are inferred from them"
    return request if gap is None else replace(request, notes=(gap,))


def _within_days(symbol: str, index: pd.DatetimeIndex, interval: str, count: int) -> list[datetime]:
    bars = index.to_numpy().astype("datetime64[us]")
    found = next_bars(symbol, bars, np.timedelta64(bar_length(interval), "us"), count)
    return [] if found is None else [*found.tolist()]


def encode(
    symbol: str,
    history: pd.DataFrame,
    *,
    horizon: int,
    interval: str,
    targets: Sequence[datetime],
    samples: int,
    seed: int | None,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    zone: str | None = None,
    paths: bool = False,
    model: str | None = None,
) -> SeriesRequest:
    """Write `history` (columns open, high, low, close, volume; newest bar last) as a request.

    Volume is sent only if every bar has one, because the Space requires it in all rows or in none.
    With `zone`, times are sent as local times with their offset from UTC. The default `seed` is
    derived from the ticker and its newest bar, so that equal candles give equal forecasts.
    """
    columns = [*PRICES]
    if "volume" in history and history["volume"].notna().all():
        columns.append("volume")
    as_of = history.index[-1].to_pydatetime()
    if seed is None:
        seed = zlib.crc32(f"{symbol} {as_of.isoformat()}".encode())
    request: dict[str, Any] = {
        "symbol": symbol,
        "interval": interval,
        "horizon": horizon,
        "samples": samples,
        "temperature": temperature,
        "top_p": top_p,
        "quantiles": list(QUANTILE_LEVELS),
        "seed": seed,
    }
    if paths:
        request["return_paths"] = True
    if model is not None:
        request["model"] = model
    if targets:
        request["target_timestamps"] = _stamps(pd.DatetimeIndex(list(targets)), zone)
    return SeriesRequest(
        symbol=symbol,
        interval=interval,
        horizon=horizon,
        as_of=as_of,
        last_close=float(history["close"].iloc[-1]),
        highest=float(history[PRICES].to_numpy().max()),
        samples=samples,
        seed=seed,
        bars_hash=bars_hash(history[columns]),
        targets=tuple(targets),
        body=_with_bars(request, history[columns], zone),
        paths=paths,
        model=model,
    )


def _stamps(times: pd.DatetimeIndex, zone: str | None) -> list[str]:
    """Return ISO 8601 texts of naive UTC times; with `zone`, as local times."""
    if zone is not None and zone != "UTC":
        return [moment.isoformat() for moment in times.tz_localize("UTC").tz_convert(zone)]
    texts: list[str] = np.datetime_as_string(times.to_numpy().astype("datetime64[s]")).tolist()
    return texts


def _with_bars(request: Mapping[str, Any], bars: pd.DataFrame, zone: str | None) -> bytes:
    """Return the request's JSON with `ohlcv` as its last member.

    Written by hand, because bars are most of a request, and this is five times as fast as dicts.
    """
    values = bars.to_numpy(dtype="float64")
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinity among the bars")
    stamps = _stamps(pd.DatetimeIndex(bars.index), zone)
    members = ",".join(f'"{name}":%r' for name in bars)
    pattern = '{"timestamp":"%s",' + members + "}"
    rows = zip(stamps, *values.T.tolist(), strict=True)
    ohlcv = ",".join([pattern % row for row in rows])
    head = json.dumps(request, separators=(",", ":"), allow_nan=False)
    return f'{head[:-1]},"ohlcv":[{ohlcv}]}}'.encode()


def envelope(requests: Sequence[SeriesRequest]) -> bytes:
    """Return the body of /predict/batch."""
    return b'{"requests":[' + b",".join(request.body for request in requests) + b"]}"
