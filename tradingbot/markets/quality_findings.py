"""What can be odd about a ticker's candles, and what each of their users does about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import pandas as pd

from tradingbot.errors import DataError


class Kind(StrEnum):
    """What can be wrong with candles."""

    SPACING = "spacing"  # the bars are not of the interval
    CALENDAR = "calendar"  # they contradict the calendar
    SCALE = "scale"  # they change their unit
    UNFINISHED = "unfinished"  # of a session that is not over, or has not begun
    STRAY = "stray"  # a few bars on days without a session
    MISSING = "missing"  # sessions without a bar
    HALTED = "halted"  # bars without a trade
    CALENDAR_ENDS = "calendar-ends"  # holidays are not recorded that far
    UNCHECKED = "unchecked"  # what could not be judged


class Action(StrEnum):
    """What is done about a finding."""

    REFUSE = "refused"
    MEND = "mended"
    WARN = "warning"
    NOTE = "note"


class Caller(StrEnum):
    """Who uses the frame."""

    REMOTE = "remote source"  # asked during trading hours too: a running bar is no news
    FILES = "files"
    OWN = "own frame"  # handed over for a forecast
    BACKTEST = "backtest"


_REFUSED = dict.fromkeys(Caller, Action.REFUSE)
_TOLD = dict.fromkeys(Caller, Action.WARN)
POLICY: dict[Kind, dict[Caller, Action]] = {
    Kind.SPACING: _REFUSED,
    Kind.CALENDAR: _REFUSED,
    Kind.SCALE: _REFUSED,
    Kind.UNFINISHED: dict.fromkeys(Caller, Action.MEND),
    Kind.STRAY: _TOLD,
    Kind.MISSING: _TOLD,
    Kind.HALTED: _TOLD,
    Kind.CALENDAR_ENDS: _TOLD,
    # in a backtest the calendar is needed for nothing else, so that nobody else would say it
    Kind.UNCHECKED: dict.fromkeys(Caller, Action.NOTE) | {Caller.BACKTEST: Action.WARN},
}


@dataclass(frozen=True)
class Finding:
    """One thing that is odd about a ticker's candles."""

    kind: Kind
    symbol: str
    bar: datetime | None  # the bar that shows it, the newest of several
    figure: float  # how many bars or sessions, or the factor
    text: str  # what it is, and the way out

    def action(self, caller: Caller) -> Action:
        return POLICY[self.kind][caller]


def apply_policy(
    frame: pd.DataFrame, findings: Sequence[Finding], caller: Caller
) -> tuple[pd.DataFrame, list[str]]:
    """Return the mended frame, and a sentence on each finding that its user should know.

    Raises:
        DataError: The first finding that `caller` refuses.
    """
    warnings = []
    for finding in findings:
        action = finding.action(caller)
        if action is Action.REFUSE:
            raise DataError(finding.text, symbol=finding.symbol)
        if finding.kind is Kind.UNFINISHED:
            frame = frame.iloc[: len(frame) - int(finding.figure)]
        routine = finding.kind is Kind.UNFINISHED and caller is Caller.REMOTE
        if action in (Action.MEND, Action.WARN) and not routine:
            warnings.append(finding.text)
    return frame, warnings
