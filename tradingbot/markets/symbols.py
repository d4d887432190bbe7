"""The exchange and asset class of a ticker, from its spelling."""

import re

from tradingbot.errors import ConfigError, DataError
from tradingbot.markets.broker_symbols import globex_calendar, is_broker_symbol
from tradingbot.markets.currency_pairs import pair_calendar
from tradingbot.markets.custom_calendars import custom_calendars

_REMEDY = (
    "expected Yahoo's spelling, such as 7203.T, BRK-B, BTC-USD or EURUSD=X, "
    "or a line with its exchange in the file KRONOS_CALENDARS"
)


def calendar_name(symbol: str) -> str:
    """Return the name of the ticker's exchange in exchange_calendars, such as XNYS.

    The file KRONOS_CALENDARS takes precedence. Raise DataError for an unknown suffix, index or
    spelling, because New York's holidays would be wrong for such a ticker.
    """
    ticker = symbol.strip().upper()
    if not ticker:
        raise DataError("a ticker is empty; expected one such as SPY")
    if not is_visible(ticker):
        raise DataError(f"{ticker!a} has invisible characters", symbol=symbol)
    try:
        custom = custom_calendars()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    found = (
        custom.get(ticker)
        or _INDICES.get(ticker)
        or pair_calendar(ticker)
        or globex_calendar(ticker)
        or _chinese(ticker)
    )
    if found:
        return found
    if _CLASS.fullmatch(ticker):
        return "XNYS"
    stem, separator, suffix = _split(ticker)
    if not separator:
        _refuse_foreign(symbol, ticker)
        return "XNYS"
    calendar = (_KINDS if separator == "=" else _SUFFIXES).get(suffix)
    if stem and separator == "." and suffix in _WITHOUT_CALENDAR:
        raise DataError(
            f"exchange_calendars has no calendar of {_WITHOUT_CALENDAR[suffix]} (.{suffix}); give "
            "the ticker an exchange with nearly the same sessions in the file KRONOS_CALENDARS",
            symbol=symbol,
        )
    if not stem or calendar is None:
        raise DataError(
            f"no exchange is known for the suffix {separator}{suffix}; {_REMEDY}", symbol=symbol
        )
    return calendar


def is_visible(symbol: str) -> bool:
    """Return whether every character is visible: no control or format characters, no fillers.

    A Space has the same rule.
    """
    return symbol.isprintable() and not _FILLERS.search(symbol)


# Characters that are printable to Python but invisible.
_FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)

# Share classes: BRK.B, BRK/B, "BRK B". Other letters after a point are exchange suffixes.
_CLASS = re.compile(r"([A-Z]{1,4})[./ ]([AB])")


def _chinese(ticker: str) -> str | None:
    """Return Shanghai's calendar for bare Chinese numbers: 600519, 000001, SZ000001; else None."""
    return "XSHG" if _CHINESE.fullmatch(ticker) else None


_CHINESE = re.compile(
    r"(?:(?:SH|SZ|BJ)\.?\d{3}"
    r"|60[0135]|68[89]|90\d|5(?:0[1-9]|[168]\d)|00[0-3]|30[01]|200|15[019]|16\d|399|43\d|8[37]\d|920)\d{3}"
)


def _refuse_foreign(symbol: str, ticker: str) -> None:
    """Raise DataError for a name without a suffix that cannot be a New York ticker."""
    if ticker.startswith("^"):
        raise DataError(
            "no exchange is known for this index; expected one as ^GSPC or ^N225, or a line with "
            "its exchange in the file KRONOS_CALENDARS",
            symbol=symbol,
        )
    if is_broker_symbol(ticker):
        raise DataError(f"no exchange is known for this spelling; {_REMEDY}", symbol=symbol)


def yahoo_spelling(symbol: str) -> str:
    """Return Yahoo's spelling: BRK-B for BRK.B, AAPL for AAPL.US."""
    stock = _CLASS.fullmatch(symbol.strip().upper().removesuffix(".US"))
    return f"{stock[1]}-{stock[2]}" if stock else re.sub(r"\.US$", "", symbol, flags=re.IGNORECASE)


def _split(ticker: str) -> tuple[str, str, str]:
    """Split a ticker: 7203.T -> ("7203", ".", "T"); EURUSD=X -> ("EURUSD", "=", "X")."""
    for separator in "=.":
        stem, found, suffix = ticker.rpartition(separator)
        if found:
            return stem, separator, suffix
    return ticker, "", ""


_KINDS = {"X": "24/5", "F": "CMES"}

_SUFFIXES = {
    # Americas; others than Yahoo append US to New York tickers
    "US": "XNYS",
    "TO": "XTSE", "V": "XTSX", "CN": "XTSE", "NE": "XTSE", "MX": "XMEX", "SA": "BVMF",
    "BA": "XBUE", "SN": "XSGO", "CL": "XBOG", "LM": "XLIM",
    # Europe; Cboe's London tickers have London's days
    "L": "XLON", "IL": "XLON", "XC": "XLON", "AQ": "XLON", "IR": "XDUB", "PA": "XPAR",
    "AS": "XAMS", "BR": "XBRU", "LS": "XLIS", "NX": "XPAR", "DE": "XETR", "F": "XFRA",
    "BE": "XFRA", "BM": "XFRA", "DU": "XDUS", "HM": "XHAM", "HA": "XFRA", "MU": "XFRA",
    "SG": "XSTU", "SW": "XSWX", "VI": "XWBO", "MI": "XMIL", "TI": "XMIL", "MC": "XMAD",
    "ST": "XSTO", "HE": "XHEL", "CO": "XCSE", "OL": "XOSL", "IC": "XICE", "TL": "XTAL",
    "RG": "XRIS", "VS": "XLIT", "WA": "XWAR", "PR": "XPRA", "BD": "XBUD", "RO": "XBSE",
    "AT": "ASEX", "IS": "XIST", "ME": "XMOS",
    # Middle East, Africa
    "TA": "XTAE", "SR": "XSAU", "JO": "XJSE",
    # Asia, Pacific; Shenzhen has the days of Shanghai, and India's NSE those of Bombay
    "T": "XTKS", "HK": "XHKG", "SS": "XSHG", "SZ": "XSHG", "TW": "XTAI", "TWO": "XTAI",
    "SH": "XSHG", "XSHG": "XSHG", "XSHE": "XSHG", "KS": "XKRX", "KQ": "XKRX",
    "NS": "XBOM", "BO": "XBOM", "SI": "XSES",
    "JK": "XIDX", "KA": "XKAR",
    "KL": "XKLS", "BK": "XBKK", "PS": "XPHS", "AX": "XASX", "XA": "XASX", "NZ": "XNZE",
    # futures with a delivery month: CLF27.NYM
    "CME": "CMES", "CBT": "CMES", "NYM": "CMES", "CMX": "CMES", "NYB": "ICEUS",
}  # fmt: skip

# Yahoo suffixes of exchanges that exchange_calendars lacks
_WITHOUT_CALENDAR = {
    "AE": "Dubai", "CA": "Cairo", "CM": "Colombo", "CR": "Caracas", "KW": "Kuwait", "QA": "Doha",
    "VN": "Vietnam", "XD": "Cboe Europe",
}  # fmt: skip

_INDICES = {
    "^GSPC": "XNYS", "^SPX": "XNYS", "^SP500TR": "XNYS", "^OEX": "XNYS", "^SP100": "XNYS",
    "^XEO": "XNYS", "^MID": "XNYS", "^SP400": "XNYS", "^SP600": "XNYS", "^DJI": "XNYS",
    "^DJT": "XNYS", "^DJU": "XNYS", "^DJA": "XNYS", "^IXIC": "XNYS", "^NDX": "XNYS",
    "^NBI": "XNYS", "^RUT": "XNYS", "^RUA": "XNYS", "^RUI": "XNYS", "^W5000": "XNYS",
    "^NYA": "XNYS", "^XAX": "XNYS", "^XMI": "XNYS", "^SOX": "XNYS", "^BKX": "XNYS", "^KRX": "XNYS",
    "^XAU": "XNYS", "^HUI": "XNYS", "^VIX": "XNYS", "^VIX3M": "XNYS", "^VVIX": "XNYS",
    "^VXN": "XNYS", "^VXD": "XNYS", "^SKEW": "XNYS", "^GVZ": "XNYS", "^OVX": "XNYS",
    "^MOVE": "XNYS", "^TNX": "XNYS", "^IRX": "XNYS", "^FVX": "XNYS", "^TYX": "XNYS",
    "^FTSE": "XLON", "^FTMC": "XLON", "^FTAS": "XLON", "^GDAXI": "XETR", "^MDAXI": "XETR",
    "^SDAXI": "XETR", "^TECDAX": "XETR", "^STOXX": "XETR", "^STOXX50E": "XETR",
    "^FCHI": "XPAR", "^SBF120": "XPAR", "^N100": "XPAR", "^AEX": "XAMS", "^BFX": "XBRU",
    "^SSMI": "XSWX", "^ATX": "XWBO", "^IBEX": "XMAD", "^OMX": "XSTO", "^OMXC25": "XCSE",
    "^OMXH25": "XHEL", "^OSEAX": "XOSL", "^ISEQ": "XDUB",
    "^N225": "XTKS", "^HSI": "XHKG", "^HSCE": "XHKG", "^KS11": "XKRX", "^KS200": "XKRX",
    "^KQ11": "XKRX", "^TWII": "XTAI", "^STI": "XSES", "^BSESN": "XBOM", "^NSEI": "XBOM",
    "^NSEBANK": "XBOM", "^JKSE": "XIDX", "^KLSE": "XKLS", "^AXJO": "XASX", "^AORD": "XASX",
    "^NZ50": "XNZE",
    "^GSPTSE": "XTSE", "^BVSP": "BVMF", "^MXX": "XMEX", "^MERV": "XBUE", "^IPSA": "XSGO",
    # spellings of others than Yahoo, if no stock has the same name
    "STOXX50E": "XETR", "SX5E": "XETR", "EUROSTOXX": "XETR", "GDAXI": "XETR", "MDAX": "XETR",
    "SDAX": "XETR", "TECDAX": "XETR", "FCHI": "XPAR", "FTSE": "XLON", "UKX": "XLON",
    "FTSEMIB": "XMIL", "SSMI": "XSWX", "WIG20": "XWAR",
    "N225": "XTKS", "NI225": "XTKS", "NKY": "XTKS", "NIKKEI": "XTKS", "TOPIX": "XTKS",
    "HSI": "XHKG", "HANGSENG": "XHKG", "HSCEI": "XHKG", "KOSPI": "XKRX", "KOSPI200": "XKRX",
    "KOSDAQ": "XKRX", "TAIEX": "XTAI", "TWII": "XTAI", "CSI300": "XSHG", "CSI500": "XSHG",
    "SSE50": "XSHG", "SHCOMP": "XSHG", "SENSEX": "XBOM", "NIFTY": "XBOM", "NIFTY50": "XBOM",
    "BANKNIFTY": "XBOM", "FINNIFTY": "XBOM", "AORD": "XASX", "GSPTSE": "XTSE", "BVSP": "BVMF",
    "IBOV": "BVMF", "IBOVESPA": "BVMF", "MERVAL": "XBUE", "DXY": "ICEUS",
}  # fmt: skip
_CLASSES = {"24/7": "crypto", "24/5": "fx", "CMES": "future", "ICEUS": "future"}


def may_pay_dividends(symbol: str) -> bool:
    """Return whether holding the ticker may earn dividends, judging by its spelling."""
    return asset_class(symbol) in ("equity", "other")


def asset_class(symbol: str) -> str:
    """Return equity, index, crypto, fx or future, judging by the spelling; else "other"."""
    try:
        calendar = calendar_name(symbol)
    except DataError:
        return "other"
    is_index = symbol.strip().upper() in _INDICES
    return "index" if is_index else _CLASSES.get(calendar, "equity")
