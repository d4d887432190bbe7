"""Kinds of quality problems of candles, and the policy of each caller for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import pandas as pd

from tradingbot.errors import DataError


class Kind(StrEnum):
    """A kind of problem with candles."""

    SPACING = "spacing"  # the spacing does not match the interval
    CALENDAR = "calendar"  # the bars contradict the calendar
    SCALE = "scale"  # the unit of prices changes
    UNFINISHED = "unfinished"  # bars of a session that is not over, or has not begun
    STRAY = "stray"  # a few bars on days without a session
    MISSING = "missing"  # sessions without a bar
    HALTED = "halted"  # bars without a trade
    CALENDAR_ENDS = "calendar-ends"  # holidays are not recorded that far
    UNCHECKED = "unchecked"  # facts that could not be checked


class Action(StrEnum):
    """The action taken for a finding."""

    REFUSE = "refused"
    MEND = "mended"
    WARN = "warning"
    NOTE = "note"


class Caller(StrEnum):
    """The origin or use of a frame, which selects the policy."""

    REMOTE = "remote source"  # also fetched during trading hours, so a running bar is normal
    FILES = "files"
    OWN = "own frame"  # passed in for a forecast
    BACKTEST = "backtest"


_REFUSED = dict.fromkeys(Caller, Action.REFUSE)
_WARNED = dict.fromkeys(Caller, Action.WARN)
POLICY: dict[Kind, dict[Caller, Action]] = {
    Kind.SPACING: _REFUSED,
    Kind.CALENDAR: _REFUSED,
    Kind.SCALE: _REFUSED,
    Kind.UNFINISHED: dict.fromkeys(Caller, Action.MEND),
    Kind.STRAY: _WARNED,
    Kind.MISSING: _WARNED,
    Kind.HALTED: _WARNED,
    Kind.CALENDAR_ENDS: _WARNED,
    # in a backtest nothing else uses the calendar, so nothing else would report the problem
    Kind.UNCHECKED: dict.fromkeys(Caller, Action.NOTE) | {Caller.BACKTEST: Action.WARN},
}


@dataclass(frozen=True)
class Finding:
    """One problem with a ticker's candles."""

    kind: Kind
    symbol: str
    bar: datetime | None  # the bar with the problem; of several bars the newest
    figure: float  # number of bars or sessions, or the factor
    text: str  # the problem, and what to do

    def action(self, caller: Caller) -> Action:
        return POLICY[self.kind][caller]


def apply_policy(
    frame: pd.DataFrame, findings: Sequence[Finding], caller: Caller
) -> tuple[pd.DataFrame, list[str]]:
    """Return the corrected frame, and a sentence for each finding that the user should know.

    Raises:
        DataError: The first finding that `caller` refuses.
    """
    warnings = []
    for finding in findings:
        action = finding.action(caller)
        if action is Action.REFUSE:
            raise DataError(finding.text, symbol=finding.symbol)
        routine = finding.kind is Kind.UNFINISHED and caller is Caller.REMOTE
        if action in (Action.MEND, Action.WARN) and not routine:
            warnings.append(finding.text)
    return without_unfinished(frame, findings), warnings


def without_unfinished(frame: pd.DataFrame, findings: Sequence[Finding]) -> pd.DataFrame:
    """Return the bars that the findings do not count as unfinished; those are the newest."""
    count = sum(int(found.figure) for found in findings if found.kind is Kind.UNFINISHED)
    return frame.iloc[: len(frame) - count]
