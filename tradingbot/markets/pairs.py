"""Pairs of currencies, coins and metals, as Yahoo, Binance, ccxt, Oanda and MetaTrader spell them.

BTC-USD, BTCUSDT, BTC/USDT, BTC/USDT:USDT, BTC_USDT, BTC-PERP, BTCUSDT.P    every day
EURUSD, EUR/USD, EUR_USD, EURUSD.pro, XAUUSD                                Monday to Friday
"""

import re

CRYPTO, FX = "24/7", "24/5"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FIAT = _names(
    "AED ARS AUD BRL CAD CHF CLP CNH CNY COP CZK DKK EUR GBP HKD HUF IDR ILS INR JPY KRW MXN MYR "
    "NOK NZD PEN PHP PLN RON RUB SAR SEK SGD THB TRY TWD UAH USD ZAR"
)
_METALS = _names("XAU XAG XPT XPD")
_STABLE = _names("USDT USDC BUSD FDUSD TUSD USDP USDE PYUSD DAI UST USTC EURT EURC EURI")
_COINS = _STABLE | _names(
    "BTC XBT XXBT ETH XETH BNB XRP XXRP ADA SOL DOGE XDG XXDG TRX DOT MATIC POL LTC XLTC SHIB AVAX "
    "LINK XLM XXLM XMR XXMR ETC XETC BCH BSV UNI ATOM FIL NEAR APT ARB OP INJ SUI TON PEPE BONK "
    "WIF FLOKI ICP HBAR VET ALGO AAVE MKR GRT SAND MANA AXS EGLD THETA FTM EOS XTZ NEO DASH ZEC "
    "ZRX BAT COMP SNX CRV YFI SUSHI ENJ CHZ QTUM LUNA LUNC FTT RUNE KAVA STX IMX TIA SEI JUP "
    "WLD ORDI ENA PYTH STRK TAO RNDR RENDER FET GALA LDO DYDX GMX BLUR APE WBTC STETH XAUT PAXG "
    "HYPE TRUMP ONDO WLFI BABYDOGE 1INCH 1000SHIB 1000PEPE 1000BONK 1000FLOKI"
)
_QUOTES = _FIAT | _COINS | {"ZUSD", "ZEUR"}

# What exchanges add to the name of a contract: a perpetual one, or a date of delivery.
_CONTRACT = re.compile(
    r"(?:[-_.:/]?(?:PERP|PERPETUAL)(?:-INTX)?|[-_]SWAP|\.P"
    r"|[-_]\d{6}|-\d{1,2}(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)\d\d)$"
)
_SETTLED = re.compile(r":[A-Z]{2,10}(?:-\d{6})?$")  # ccxt: BTC/USDT:USDT
# Brokers add letters or a sign to their names of pairs: EURUSD.pro, EURUSDm, EURUSD#
_BROKERS = re.compile(r"([A-Z]{3})([A-Z]{3})(?:[._\-+#!]?[A-Z]{0,6}|\.{1,2})[+#!.]?")


def pair_calendar(ticker: str) -> str | None:
    """Return the calendar of a pair, "24/7" or "24/5"; None for what is no pair.

    `ticker` is in capitals.
    """
    if "=" in ticker or "^" in ticker:  # Yahoo's own
        return None
    name = _SETTLED.sub("", ticker) if "/" in ticker else ticker
    plain = _CONTRACT.sub("", name)
    for separator in "/_-":
        base, found, quote = plain.partition(separator)
        if found:
            return _kind(base, quote, written_as=separator)
    if plain != name and (plain in _COINS or "PERP" in name[len(plain) :]):  # BTC-PERP
        return CRYPTO
    return _joined(plain)


def is_spelled_as_pair(ticker: str) -> bool:
    """Whether it ends with a currency or a coin as only pairs do: US30/USD, SPX500_USD, BRK/B."""
    return any(
        found and (quote in _QUOTES or len(quote) == 1)
        for _, found, quote in (ticker.rpartition(separator) for separator in "/_")
    )


def _kind(base: str, quote: str, *, written_as: str) -> str | None:
    """The calendar of a pair whose two parts are known to be parts."""
    if not re.fullmatch(r"[A-Z0-9.]{1,20}", base) or quote not in _QUOTES:
        return None
    if base in _FIAT | _METALS and quote in _FIAT:
        return FX
    # Oanda's SPX500_USD and WTICO_USD are contracts on what has an exchange
    foreign = written_as != "-" and quote in _FIAT and base not in _COINS
    return None if foreign else CRYPTO


def _joined(name: str) -> str | None:
    """The calendar of a pair without a separator."""
    pair = _BROKERS.fullmatch(name)
    if pair and pair[1] in _FIAT | _METALS and pair[2] in _FIAT:
        return FX
    for quote in _QUOTES:
        base = name.removesuffix(quote)
        # New York's tickers have five letters at most
        if base != name and len(base) >= 2 and len(name) >= 6:
            known = base in _COINS or base.removeprefix("T") in _COINS  # Bitfinex: tBTCUSD
            stable = quote in _STABLE and re.fullmatch(r"[A-Z0-9]{2,16}", base)
            if known or (stable and quote.startswith(("USD", "BUSD", "FDUSD", "TUSD"))):
                return CRYPTO
    return None
