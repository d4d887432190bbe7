"""Pairs of currencies, coins and metals, as spelled by Yahoo, exchanges, ccxt and brokers.

BTC-USD, BTCUSDT, BTC/USDT, BTC/USDT:USDT, BTC_USDT, BTC-PERP, BTCUSDT.P    every day
XBTUSDTM (KuCoin), PF_XBTUSD (Kraken), XBTH26 (BitMEX), BTCUSDT_UMCBL       every day
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

# Prefixes and suffixes of contract names: perpetual, kind of contract, or delivery date.
_BEFORE = re.compile(r"^(?:(?:PF|PI|PV|FF|FI)_|CMT_)")
_MONTH = "[FGHJKMNQUVXZ]"
_CONTRACT = re.compile(
    r"(?:[-_.:/]?(?:PERP|PERPETUAL)(?:-INTX)?|(?:_UM)?[-_]SWAP|\.P|_(?:[UDC]MCBL|SPBL)|F0[:/]USTF0"
    r"|[-_]\d{6}|-\d{1,2}(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)\d\d(?:-\d+-[CP])?)$"
)
_SETTLED = re.compile(r":[A-Z]{2,10}(?:-\d{6})?$")  # ccxt: BTC/USDT:USDT
# Brokers append letters or a sign to pairs: EURUSD.pro, EURUSDm, EURUSD#
_BROKERS_END = r"(?:[._\-+#!]?[A-Z]{0,6}|\.{1,2})[+#!.]?"
_BROKERS = re.compile(rf"([A-Z]{{3}})([A-Z]{{3}}){_BROKERS_END}")
_COIN = "|".join(sorted(_COINS - _STABLE, key=len, reverse=True))
_BROKERS_COINS = re.compile(rf"(?:{_COIN})(?:USD[TC]?|EUR|GBP|JPY){_BROKERS_END}")
_DATED_COIN = re.compile(rf"(?:{_COIN})(?:M|USDT?|USDC)?{_MONTH}\d\d")
_STABLE_END = re.compile(r"[A-Z0-9]{2,16}(?:(?:USD[TC])M?|FDUSD)")  # BUSD might be XPB and USD


def pair_calendar(ticker: str) -> str | None:
    """Return the calendar of a pair, "24/7" or "24/5", or None if it is not a pair.

    `ticker` is in capitals.
    """
    if "=" in ticker or "^" in ticker:  # Yahoo's own spelling
        return None
    name = _SETTLED.sub("", ticker) if "/" in ticker else ticker
    plain = _BEFORE.sub("", _CONTRACT.sub("", name))
    for separator in "/_-":
        base, found, quote = plain.partition(separator)
        if found and (calendar := _kind(base, quote, written_as=separator)):
            return calendar
    if plain != name and (plain.removeprefix("T") in _COINS or "PERP" in name[len(plain) :]):
        return CRYPTO  # BTC-PERP, tBTCF0:USTF0
    calendar = _joined(plain)
    return CRYPTO if calendar and plain != name else calendar  # PF_EURUSD trades every day


def _kind(base: str, quote: str, *, written_as: str) -> str | None:
    """Return the calendar of a pair with a separator, or None."""
    if not re.fullmatch(r"[A-Z0-9.]{1,20}", base) or quote not in _QUOTES:
        return None
    if base in _FIAT | _METALS and quote in _FIAT:
        return FX
    # Oanda's SPX500_USD and WTICO_USD are contracts on assets of an exchange
    foreign = written_as != "-" and quote in _FIAT and base not in _COINS
    return None if foreign else CRYPTO


def _joined(name: str) -> str | None:
    """Return the calendar of a pair without a separator, or None."""
    pair = _BROKERS.fullmatch(name)
    if pair and pair[1] in _FIAT | _METALS and pair[2] in _FIAT:
        return FX
    # New York tickers have at most five letters
    if len(name) < 6:
        return None
    if any(shape.fullmatch(name) for shape in (_BROKERS_COINS, _DATED_COIN, _STABLE_END)):
        return CRYPTO
    for quote in _QUOTES:
        base = name.removesuffix(quote)
        # Bitfinex: tBTCUSD
        if base != name and (base in _COINS or base.removeprefix("T") in _COINS):
            return CRYPTO
    return None
