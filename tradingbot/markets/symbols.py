"""Which exchange and asset class a ticker belongs to, by its spelling."""

import re

from tradingbot.errors import DataError


def calendar_name(symbol: str) -> str:
    """The name that exchange_calendars has for the ticker's exchange, such as XNYS.

    Raises DataError for a suffix or an index that is not known: New York's holidays would be wrong
    for it.
    """
    ticker = symbol.strip().upper()
    if not ticker:
        raise DataError("a ticker is empty; expected one such as SPY")
    if ticker in _INDICES:
        return _INDICES[ticker]
    if _CRYPTO_PAIR.fullmatch(ticker):
        return "24/7"
    stem, separator, suffix = _split(ticker)
    if not separator:
        if ticker.startswith("^"):
            raise DataError(
                "no exchange is known for this index; expected one as ^GSPC or ^N225",
                symbol=symbol,
            )
        return "XNYS"
    calendar = (_KINDS if separator == "=" else _SUFFIXES).get(suffix)
    if not stem or calendar is None:
        raise DataError(
            f"no exchange is known for the suffix {separator}{suffix}; "
            "expected Yahoo's spelling, such as 7203.T, BRK-B, BTC-USD or EURUSD=X",
            symbol=symbol,
        )
    return calendar


def _split(ticker: str) -> tuple[str, str, str]:
    """7203.T -> ("7203", ".", "T"); EURUSD=X -> ("EURUSD", "=", "X"); SPY -> ("SPY", "", "")."""
    for separator in "=.":
        stem, found, suffix = ticker.rpartition(separator)
        if found:
            return stem, separator, suffix
    return ticker, "", ""


# Yahoo writes pairs of crypto currencies BASE-QUOTE. The quote is spelled out here since a dash
# also marks share classes and preferred shares: BRK-B, BAC-PL.
_CRYPTO_PAIR = re.compile(
    r"[A-Z0-9]{1,20}-"
    r"(USD|EUR|GBP|JPY|CHF|CAD|AUD|NZD|INR|KRW|CNY|BRL|RUB|TRY|MXN|USDT|USDC|BUSD|DAI|BTC|ETH|BNB)"
)

_KINDS = {"X": "24/5", "F": "CMES"}

_SUFFIXES = {
    # Americas
    "TO": "XTSE", "V": "XTSX", "CN": "XTSE", "NE": "XTSE", "MX": "XMEX", "SA": "BVMF",
    "BA": "XBUE", "SN": "XSGO", "CL": "XBOG", "LM": "XLIM",
    # Europe
    "L": "XLON", "IL": "XLON", "IR": "XDUB", "PA": "XPAR", "AS": "XAMS", "BR": "XBRU",
    "LS": "XLIS", "NX": "XPAR", "DE": "XETR", "F": "XFRA", "BE": "XFRA", "DU": "XDUS",
    "HM": "XHAM", "HA": "XFRA", "MU": "XFRA", "SG": "XSTU", "SW": "XSWX", "VI": "XWBO",
    "MI": "XMIL", "MC": "XMAD", "ST": "XSTO", "HE": "XHEL", "CO": "XCSE", "OL": "XOSL",
    "IC": "XICE", "TL": "XTAL", "RG": "XRIS", "VS": "XLIT", "WA": "XWAR", "PR": "XPRA",
    "BD": "XBUD", "RO": "XBSE", "AT": "ASEX", "IS": "XIST",
    # Middle East, Africa
    "TA": "XTAE", "SR": "XSAU", "JO": "XJSE",
    # Asia, Pacific; Shenzhen keeps Shanghai's days, and India's NSE those of Bombay
    "T": "XTKS", "HK": "XHKG", "SS": "XSHG", "SZ": "XSHG", "TW": "XTAI", "TWO": "XTAI",
    "KS": "XKRX", "KQ": "XKRX", "NS": "XBOM", "BO": "XBOM", "SI": "XSES", "JK": "XIDX",
    "KL": "XKLS", "BK": "XBKK", "PS": "XPHS", "AX": "XASX", "XA": "XASX", "NZ": "XNZE",
    # futures with a delivery month: CLF27.NYM
    "CME": "CMES", "CBT": "CMES", "NYM": "CMES", "CMX": "CMES", "NYB": "ICEUS",
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
}  # fmt: skip
_CLASSES = {"24/7": "crypto", "24/5": "fx", "CMES": "future", "ICEUS": "future"}


def asset_class(symbol: str) -> str:
    """equity, index, crypto, fx or future, from how the ticker is spelt; else "other"."""
    try:
        calendar = calendar_name(symbol)
    except DataError:
        return "other"
    return "index" if symbol.strip().startswith("^") else _CLASSES.get(calendar, "equity")
