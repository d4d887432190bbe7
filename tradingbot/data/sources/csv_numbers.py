"""Parse numbers in common formats: 1,234.50 or 1.234,50, $12.30, 54.2M.

A file whose numbers are all ambiguous is refused: 1.234 may mean 1234, or a number near 1.
"""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from tradingbot.typing import Flags, Floats

MISSING = frozenset(("", "null", "nan", "na", "n/a", "none", "-", "--", "\u2014", "\u2013", "#n/a"))
# matches texts that may be a number
NUMERIC = re.compile(r"[-+\u2212.,$€£¥₹\s'\u2019]*\d[-+\u2212.,$€£¥₹\s'\u2019\deE]*")
_AROUND = re.compile(r"^'|(?:\b[A-Z]{1,3})?[$€£¥₹₩₽฿₿]|(?<=\d)\s*[KMBT]\s*$", re.IGNORECASE)
_MULTIPLES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_MARKS = re.compile(r"[.,]")
# groups of thousands; in India the groups above the thousands have two digits
_GROUPED = r"[1-9]\d{{0,2}}(?:{0}\d{{2,3}})*{0}\d{{3}}"
_PATTERNS = {
    mark: re.compile(
        rf"[-+]?(?:\d+|{_GROUPED.format(other)}|{_GROUPED.format(gap)})?"
        rf"(?:{re.escape(mark)}\d*)?(?:e[-+]?\d+)?",
        re.IGNORECASE,
    )
    for mark, other, gap in ((".", ",", r"[\s'\u2019]"), (",", r"\.", r"[\s'\u2019]"))
}


def decimal_mark(texts: Iterable[str]) -> tuple[str | None, str | None]:
    """Return the decimal mark used in `texts`, or None and the first ambiguous text.

    The first unambiguous number decides: one with both marks, with one mark twice, or with a mark
    not followed by three digits.
    """
    doubtful = None
    for text in texts:
        if "." not in text and "," not in text:
            continue
        bare = _bare(text)
        marks = _MARKS.findall(bare)
        if not marks or not NUMERIC.fullmatch(bare):
            continue
        if len(set(marks)) == 2:
            return marks[-1], None
        if len(marks) > 1:
            return _other(marks[0]), None
        if not re.fullmatch(r"[-+]?[1-9]\d{0,2}[.,]\d{3}", bare):
            return marks[0], None
        doubtful = doubtful or text
    return None, doubtful


def two_readings(text: str) -> str:
    """Describe the two readings of a number such as 1.234."""
    bare = _bare(text)
    mark = _MARKS.findall(bare)[0]
    return (
        f"is {bare.replace(mark, '.')} or {bare.replace(mark, '')}, and no number of the file "
        f"shows which; write {bare.replace(mark, '.')}0 or {bare.replace(mark, '')}"
    )


def to_floats(texts: list[str], mark: str) -> tuple[Floats, Flags]:
    """Return the numbers, and which texts are invalid: neither a number nor a sign for "missing".

    Missing and invalid numbers are NaN.
    """
    plain = pd.Series(
        [text.replace(",", ".") if "." not in text else "" for text in texts]
        if mark == ","
        else texts,
        dtype="object",
    )
    values = pd.to_numeric(plain, errors="coerce").to_numpy(dtype="float64", copy=True)
    wrong = np.zeros(len(texts), dtype=bool)
    for i in np.flatnonzero(np.isnan(values)):
        if texts[i].lower() not in MISSING:
            values[i] = number(texts[i], mark)
            wrong[i] = np.isnan(values[i])
    return values, wrong


def number(text: str, mark: str) -> float:
    """Return one number, or NaN."""
    bare = _bare(text)
    if not _PATTERNS[mark].fullmatch(bare) or not any(map(str.isdigit, bare)):
        return float("nan")
    digits = re.sub(r"[\s'\u2019]", "", bare.replace(_other(mark), "")).replace(mark, ".")
    return float(digits) * _MULTIPLES.get(text.strip()[-1:].upper(), 1.0)


def _bare(text: str) -> str:
    """Return the number without currency, multiple and surrounding spaces."""
    return _AROUND.sub("", text).strip().replace("\u2212", "-")


def _other(mark: str) -> str:
    return "," if mark == "." else "."
