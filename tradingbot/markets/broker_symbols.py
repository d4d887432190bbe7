"""Recognise broker symbols that have no suffix and cannot be New York tickers.

  GER40.cash, US30, STOXX50, XBRUSD, NATGAS    contracts whose hours each broker sets: refused
  ES1!, CLF27, NQH6                            futures on CME Globex
  S&P500, US0378331005, AAPL_1D                not a possible New York ticker: refused

New York tickers have one to five letters, and may have a share class after a hyphen. Digits are
also accepted, because made-up names contain digits.
"""

import re

_NUMBERED = (
    "US USA NAS NASDAQ NDX NQ UT USTEC USTECH SP SPX DJ DJI DOW WS RUSSELL RUT "
    "GER DE DAX UK FTSE FR FRA CAC EU EUR EURO EUSTX ESTX STOXX STX SX ES ESP SPA SPAIN IBEX IT "
    "ITA MIB NL NED NETH AEX SE SWE OMX NO NOR OBX CH SWI SMI PL POL WIG CZ BEL PSI PT POR ATX "
    "AU AUS ASX SPI JP JPN NI NIK NIKKEI HK HSI HS CN CHN CHINA CHINAA CSI SG SIN SING IN IND "
    "INDIA KR KOR TW TWN TAIWAN ZA SA RSA BR BRA MEX CA CAN TSX TA BIST"
)
_COMMODITIES = (
    "BRENT BRENTOIL USOIL UKOIL WTIOIL WTICO CRUDE CRUDOIL "
    "CRUDEOIL SPOTCRUDE SPOTBRENT NATGAS NGAS NATURALGAS GASOLINE GASOIL HEATINGOIL SILVER COPPER "
    "PLATINUM PALLADIUM ALUMINIUM ALUMINUM NICKEL ZINC COCOA COFFEE SUGAR COTTON WHEAT SOYBEAN "
    "SOYBEANS SOYBN CATTLE LUMBER BUND BOBL SCHATZ USDIDX USDINDEX DOLLAR EURX"
)
_BROKERS_CONTRACT = re.compile(
    rf"(?:(?:{_NUMBERED.replace(' ', '|')})"
    r"(?:20|25|30|33|35|40|50|60|100|120|200|225|300|350|400|500|600|1000|2000|3000)"
    rf"|USTEC|X(?:TI|BR|NG|CU|AL|PB|ZN|NI)(?=[A-Z]{{3}})|{_COMMODITIES.replace(' ', '|')})"
    r"(?:[A-Z]{3})?[._#+\-]?[A-Z]{0,6}"
    r"|[A-Z]{2,4}\d\dYR?"  # bonds: US10Y
)
_PAIR = re.compile(r"[A-Z0-9]{3,}(?:USD[TC]?|EUR|GBP|JPY|CHF|AUD|CAD|NZD|CNH)M?")
_NUMBER_OF_A_SECURITY = re.compile(
    r"[A-Z]{2}[A-Z0-9]{9}\d"  # ISIN
    r"|[A-Z]{1,6}\d{6}[CP]\d{8}"  # an option
)
_GLOBEX = re.compile(
    r"(?:M?ES|M?NQ|M?YM|RTY|M2K|M?CL|QM|NG|RB|HO|M?GC|SI|SIL|HG|PL|PA|Z[BNFTCSWLMOR]|UB|TN|LE|HE|GF"
    r"|6[ABCEJLMNS]|M6[ABE]|MBT|MET|SR3)(?:[12]!|[FGHJKMNQUVXZ](?:20)?\d{1,2})"
)


def globex_calendar(ticker: str) -> str | None:
    """Return "CMES" for CME Globex futures, by month or continuous number, else None."""
    return "CMES" if _GLOBEX.fullmatch(ticker) else None


def is_broker_symbol(ticker: str) -> bool:
    """Return whether a name in capitals without a known suffix cannot be a New York ticker."""
    return (
        ticker.isdigit()
        or re.fullmatch(r"[A-Z0-9.\-]+", ticker) is None
        or any(
            shape.fullmatch(ticker) is not None
            for shape in (_BROKERS_CONTRACT, _PAIR, _NUMBER_OF_A_SECURITY)
        )
    )
